"""Features of the zoo, timm, torchvision and of modules that the user names."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcld import InputError
from mcld.features import Features
from mcld.methods import Outputs
from mcld.models import ModelSpec, Network, list_models

ALL = {"logits", "pooled", "maps", "classifier"}


def build(name: str, side: int = 32, **options: Any) -> Network:
    return ModelSpec(name, 10, 3, [0.5] * 3, [0.5] * 3, image_size=[side, side], options=options).build()


def check(network: Network, features: Features, side: int) -> Outputs:
    """Shapes, logits and the classifier must agree with the network itself."""
    network.eval()
    images = torch.rand(2, 3, side, side)
    outputs = features(images)
    torch.testing.assert_close(outputs.logits, network(images))
    assert outputs.pooled is not None
    assert outputs.classifier is not None
    weight, bias = outputs.classifier
    torch.testing.assert_close(nn.functional.linear(outputs.pooled, weight, bias), outputs.logits)
    shapes = features.shapes()
    assert (shapes.classes, shapes.pooled) == (10, outputs.pooled.shape[1])
    assert shapes.maps == tuple(tuple(m.shape[1:]) for m in outputs.maps)
    return outputs


@pytest.mark.parametrize("name", sorted({entry.family: entry.name for entry in list_models()}.values()))
def test_every_family_of_the_zoo(name: str) -> None:
    network = build(name)
    outputs = check(network, Features(network, ALL), 32)
    assert len(outputs.maps) >= 3
    sizes = [m.shape[2] for m in outputs.maps]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("name", "side", "options", "maps"),
    [
        ("timm/resnet10t", 32, {}, [(64, 16), (64, 8), (128, 4), (256, 2), (512, 1)]),
        ("timm/vit_tiny_patch16_224", 16, {"img_size": 16, "patch_size": 4, "depth": 4}, [(192, 4)] * 4),
        ("timm/vit_tiny_patch16_224", 16, {"img_size": 16, "patch_size": 4, "depth": 12}, [(192, 4)] * 4),
        ("timm/swin_tiny_patch4_window7_224", 56, {"img_size": 56}, [(96, 14), (192, 7), (384, 4), (768, 2)]),
        ("torchvision/resnet18", 32, {}, [(64, 8), (128, 4), (256, 2), (512, 1)]),
        ("torchvision/mobilenet_v3_small", 32, {}, [(16, 16), (16, 8), (24, 4), (48, 2), (576, 1)]),
        ("torchvision/shufflenet_v2_x0_5", 64, {}, [(24, 32), (48, 8), (96, 4), (1024, 2)]),
    ],
)
def test_timm_and_torchvision(name: str, side: int, options: dict[str, Any], maps: list[tuple[int, int]]) -> None:
    network = build(name, side, **options)
    outputs = check(network, Features(network, ALL), side)
    assert [(m.shape[1], m.shape[2]) for m in outputs.maps] == maps


def test_tokens_become_maps_in_reading_order() -> None:
    network = build("timm/vit_tiny_patch16_224", 16, img_size=16, patch_size=4, depth=2)
    kept: list[Tensor] = []
    network.model.get_submodule("blocks.1").register_forward_hook(lambda _, __, out: kept.append(out))
    maps = Features(network, {"maps"}, maps=["blocks.1"])(torch.rand(2, 3, 16, 16)).maps
    assert torch.equal(maps[0][1, :, 2, 3], kept[0][1, 1 + 2 * 4 + 3])  # the class token comes first


def test_modules_named_by_the_user() -> None:
    network = build("resnet8")
    features = Features(network, {"maps"}, maps=["layer2.0.conv1", "bn1"], role="teacher")
    assert features.shapes().maps == ((32, 16, 16), (16, 32, 32))
    message = "teacher.maps: teacher resnet8 has no module 'layer_2'; did you mean 'layer2'.* it has conv1, bn1, layer1"
    with pytest.raises(InputError, match=message) as caught:
        Features(network, {"maps"}, maps=["layer_2"], role="teacher")
    assert "\n" not in str(caught.value)


def test_what_is_no_map_is_refused_with_its_shape() -> None:
    network = build("resnet8")
    with pytest.raises(InputError, match=r"module 'fc' gives \(1, 10\); expected maps \(B, c, h, w\), or tokens"):
        Features(network, {"maps"}, maps=["fc"]).shapes()
    vit = build("timm/vit_tiny_patch16_224", 16, img_size=[16, 8], patch_size=4, depth=2)
    with pytest.raises(InputError, match=r"module 'blocks.1' gives \(1, 9, 192\); expected .* form a square"):
        Features(vit, {"maps"}, maps=["blocks.1"], image_size=(16, 8)).shapes()


def test_a_network_without_a_linear_head_is_refused() -> None:
    network = build("torchvision/squeezenet1_0", 64)
    with pytest.raises(InputError, match="ends with no Linear; for its pooled features, expected one"):
        Features(network, {"pooled"})
    with pytest.raises(InputError, match="ends with a tuple"):
        Features(build("timm/deit_tiny_distilled_patch16_224", 16, img_size=16, patch_size=4, depth=2), {"pooled"})


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def test_logits_alone_cost_nothing() -> None:
    network = build("resnet8")
    features = Features(network, {"logits"})
    assert hooks(network) == 0
    assert features.shapes().maps == ()
    outputs = features(torch.rand(2, 3, 32, 32))
    assert (outputs.pooled, outputs.maps, outputs.classifier) == (None, (), None)


def test_only_what_is_needed() -> None:
    network = build("resnet8")
    outputs = Features(network, {"pooled"})(torch.rand(2, 3, 32, 32))
    assert hooks(network) == 1
    assert outputs.pooled is not None
    assert (outputs.maps, outputs.classifier) == ((), None)


def test_vgg_has_the_four_stages_of_the_field() -> None:
    """The first block counts as the stem, so that FitNet's hint, stage 2, is 256 maps of 8×8."""
    maps = ((128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4))
    for name in ("vgg8", "vgg13"):
        assert Features(build(name), {"maps"}).shapes().maps == maps


PREACTIVATIONS: list[tuple[str, dict[str, Any]]] = [
    ("resnet8", {}), ("resnet20_a", {}), ("ResNet18", {}), ("ResNet50", {}), ("vgg8", {}), ("ShuffleV1", {}),
    ("ShuffleV2", {}), ("MobileNetV1", {}), ("torchvision/resnet18", {}), ("torchvision/resnet50", {}),
    ("torchvision/vgg11_bn", {}), ("timm/resnet10t", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), PREACTIVATIONS)
def test_maps_before_the_activation(name: str, options: dict[str, Any]) -> None:
    """Their positive part is the stage's map, some are negative, and the network computes what it did."""
    network = build(name, **options).eval()
    images = torch.rand(2, 3, 32, 32)
    after = Features(network, {"maps"})(images).maps
    read = Features(network, {"maps"}, preactivation=True)
    before, logits = read(images).maps, read(images).logits
    torch.testing.assert_close(logits, network(images))
    assert len(before) == len(after)
    for pre, post in zip(before, after, strict=True):
        assert (pre < 0).any() or "timm" in name  # whose blocks begin as their shortcut
        # ShuffleNetV2 shuffles its channels after the activation
        same = [x.relu().flatten(1).sort().values for x in (pre, post)] if name == "ShuffleV2" else [pre.relu(), post]
        torch.testing.assert_close(*same)


def test_maps_before_the_activation_of_wide_resnets_are_normalised() -> None:
    """They are what the next ReLU gets, as in the field's codes: from the next block's normalisation, or the last."""
    network = build("wrn_16_1").eval()
    images = torch.rand(2, 3, 32, 32)
    raw = Features(network, {"maps"})(images).maps
    before = Features(network, {"maps"}, preactivation=True)(images).maps
    for name, pre, stage in zip(("block2.layer.0.bn1", "block3.layer.0.bn1", "bn1"), before, raw, strict=True):
        torch.testing.assert_close(pre, network.model.get_submodule(name)(stage))


def test_maps_without_an_activation_at_the_end_are_read_as_they_are() -> None:
    images = torch.rand(2, 3, 16, 16)
    for name, options in (
        ("MobileNetV2", {}),
        ("timm/vit_tiny_patch16_224", {"img_size": 16, "patch_size": 4, "depth": 2}),
    ):
        network = build(name, 16, **options).eval()
        plain, before = (Features(network, {"maps"}, preactivation=pre)(images).maps for pre in (False, True))
        torch.testing.assert_close(before, plain)
    named = Features(build("resnet8"), {"maps"}, maps=["layer1"], preactivation=True)(images).maps
    assert (named[0] >= 0).all()  # who names modules gets their outputs


def test_nothing_is_kept_between_calls_and_nothing_changes() -> None:
    network = build("resnet8")
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    features = Features(network, ALL)
    features.shapes()
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.model.state_dict().items())
    features(torch.rand(2, 3, 32, 32))
    network(torch.rand(2, 3, 32, 32))  # as in an evaluation
    assert features._found == {}


def test_two_views_go_through_together() -> None:
    network = build("resnet8").eval()
    features = Features(network, ALL)
    images = torch.rand(3, 2, 3, 32, 32)
    both = features(images)
    assert both.other is not None
    for view, outputs in enumerate((both, both.other)):
        alone = features(images[:, view])
        torch.testing.assert_close(outputs.logits, alone.logits)
        torch.testing.assert_close(outputs.pooled, alone.pooled)
        torch.testing.assert_close(outputs.maps, alone.maps)
    assert both.other.other is None


def test_views_apart_are_two_passes_with_their_own_batch_statistics() -> None:
    """As in the codes of MLKD and SLD: the logits of one view do not depend on the other."""
    network, twin = build("resnet8"), build("resnet8")
    twin.model.load_state_dict(network.model.state_dict())
    images = torch.rand(4, 2, 3, 32, 32)
    images[:, 1] *= 0.2
    apart = Features(network, ALL, separate_views=True)(images)
    assert apart.other is not None
    for outputs, view in ((apart, images[:, 0]), (apart.other, images[:, 1])):
        alone = Features(twin, ALL)(view)
        torch.testing.assert_close(outputs.logits, alone.logits)
        torch.testing.assert_close(outputs.pooled, alone.pooled)
        torch.testing.assert_close(outputs.maps, alone.maps)
    for (name, ours), theirs in zip(network.model.named_buffers(), twin.model.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)
    assert network.model.get_buffer("bn1.num_batches_tracked") == 2
    together = Features(build("resnet8"), ALL)(images)
    assert (together.logits - apart.logits).abs().max() > 0.01


def test_gradients_reach_the_network() -> None:
    network = build("resnet8")
    outputs = Features(network, ALL)(torch.rand(2, 3, 32, 32))
    assert outputs.pooled is not None
    torch.autograd.backward(outputs.pooled.sum() + outputs.maps[1].sum())
    assert network.model.get_parameter("conv1.weight").grad is not None


def test_compiled() -> None:
    torch._dynamo.reset()
    network = build("resnet8", width=4)
    features = Features(network, ALL)
    network.eval()
    images = torch.rand(2, 3, 16, 16)
    expected = features(images)
    network.compile(backend="aot_eager")
    for _ in range(2):
        found = features(images)
        torch.testing.assert_close(found.logits, expected.logits)
        torch.testing.assert_close(found.pooled, expected.pooled)
        torch.testing.assert_close(found.maps, expected.maps)
    assert found.maps[0].requires_grad
    network(images)
    assert features._found == {}
