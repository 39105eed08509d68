"""Folding changes what is computed, never what comes out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mcld.models import list_models
from mcld.models.folding import fold
from mcld.models.network import ModelSpec

ZOO = [entry.name for entry in list_models()]
QUICK = {"resnet8", "MobileNetV2", "ShuffleV2", "vgg8", "wrn_16_1", "resnet20_a"}


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def lived_in(network: nn.Module) -> nn.Module:
    """With statistics, weights and biases as after training."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.4, 1.6, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    return network.eval()


def assert_same(network: nn.Module, folded: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        expected, found = network(x), folded(x)
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


def images(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator)


def build(name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    return lived_in(ModelSpec(name, 10, 3, mean=[0.5] * 3, std=[0.25] * 3, image_size=[size, size]).build())


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ZOO])
def test_the_zoo(name: str) -> None:
    network = build(name, 32)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold(network)
    # Wide residual networks normalise before they convolve: what follows an addition stays.
    assert norms(folded) == 0 or (name.startswith("wrn") and norms(folded) < 0.6 * norms(network))
    assert_same(network, folded, images(32))
    assert_same(network.to(memory_format=torch.channels_last), folded.to(memory_format=torch.channels_last), images(32))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_vgg_with_its_further_pooling() -> None:
    network = build("vgg8", 64)
    assert_same(network, fold(network), images(64))


@pytest.mark.parametrize(
    ("name", "left"), [("timm/resnet10t", 0), ("timm/efficientnet_b0", 0), ("torchvision/densenet121", 62)]
)
def test_other_libraries(name: str, left: int) -> None:
    network = build(name, 64)
    folded = fold(network)
    assert norms(folded) == left < norms(network)
    assert_same(network, folded, images(64))


class Pair(nn.Module):
    """A convolution and a batch normalisation, run in some way."""

    def __init__(self, run: Callable[["Pair", Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.run = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def read_twice(m: Pair, x: Tensor) -> Tensor:
    y: Tensor = m.conv(x)
    result: Tensor = y + m.norm(y)
    return result


def by_content(m: Pair, x: Tensor) -> Tensor:
    result: Tensor = m.norm(m.conv(x)) if x.sum() > 0 else x
    return result


@pytest.mark.parametrize(
    ("run", "left"),
    [
        pytest.param(lambda m, x: m.norm(m.conv(x)), 0, id="a pair"),
        pytest.param(read_twice, 1, id="something else reads the convolution"),
        pytest.param(lambda m, x: m.norm(m.conv(m.conv(x))), 1, id="the convolution runs twice"),
        pytest.param(lambda m, x: m.norm(m.conv(x)) + m.norm(x), 1, id="the normalisation runs twice"),
        pytest.param(lambda m, x: m.conv(m.norm(x)), 1, id="the other way round"),
        pytest.param(by_content, 1, id="not to be traced"),
    ],
)
def test_only_what_is_safe_is_folded(run: Callable[[Pair, Tensor], Tensor], left: int) -> None:
    network = lived_in(Pair(run))
    folded = fold(network)
    assert norms(folded) == left
    assert_same(network, folded, torch.rand(2, 3, 8, 8))


def test_what_is_not_plain_is_left_alone() -> None:
    hooked = lived_in(Pair(lambda m, x: m.norm(m.conv(x))))
    hooked.conv.register_forward_hook(lambda *_: None)  # type: ignore[union-attr]
    assert norms(fold(hooked)) == 1
    own = lived_in(Pair(lambda m, x: m.norm(m.conv(x))))
    nn.utils.parametrizations.weight_norm(own.conv)  # type: ignore[arg-type]
    assert norms(fold(own)) == 1
    by_batch = Pair(lambda m, x: m.norm(m.conv(x)))
    by_batch.norm = nn.BatchNorm2d(3, track_running_stats=False)
    assert norms(fold(by_batch.eval())) == 1


def test_without_weight_and_bias() -> None:
    network = Pair(lambda m, x: m.norm(m.conv(x)))
    network.conv, network.norm = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3, affine=False)
    assert network.norm.running_mean is not None
    network.norm.running_mean += 0.3
    assert norms(fold(network)) == 0
    assert_same(network.eval(), fold(network), torch.rand(2, 3, 8, 8))
