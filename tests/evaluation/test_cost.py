"""Costs are counted by hand here; the table of the zoo (tests/models/test_zoo.py) holds the published numbers."""

import pytest
import torch
from torch import nn

from mcld.errors import InputError
from mcld.evaluation.cost import count_macs, count_parameters
from mcld.models import create_model


def test_a_network_small_enough_to_count() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(),
        nn.Linear(8 * 2 * 3, 5),
    )  # fmt: skip
    assert count_parameters(model) == (3 * 9 * 8 + 8) + 16 + (9 * 8 + 8) + (48 * 5 + 5)
    assert count_macs(model, (3, 4, 5)) == 4 * 5 * 8 * 27 + 2 * 3 * 8 * 9 + 48 * 5


def test_counts_attention() -> None:
    model = create_model("timm/vit_tiny_patch16_224", 10, img_size=32, patch_size=4, depth=2)
    tokens, width = 65, 192
    block = tokens * width * width * (3 + 1 + 8) + 2 * tokens * tokens * width
    assert count_macs(model, (3, 32, 32)) == 64 * 48 * width + 2 * block + width * 10


def test_a_parameter_may_be_the_input_of_a_module() -> None:
    assert count_macs(create_model("timm/pit_ti_224", 10, img_size=32, patch_size=8, stride=4), (3, 32, 32)) > 4e7


def test_images_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="the network cannot take images of 3×32×32: Wrong image height! Expected 224"):
        count_macs(create_model("torchvision/vit_b_32", 10), (3, 32, 32))


def test_leaves_modes_and_statistics_alone() -> None:
    model = create_model("resnet8", 10).train()
    model.get_submodule("layer1").eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    assert count_macs(model, (3, 8, 8)) > 0
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [(32, 32), (3, 0, 32), (1, 3, 32, 32)])
def test_refuses_other_sizes(size: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected \\(channels, height, width\\)"):
        count_macs(nn.Identity(), size)


def test_half_precision_and_no_parameters() -> None:
    assert count_macs(nn.Conv2d(3, 1, 1).to(torch.bfloat16), (3, 2, 2)) == 12
    assert count_macs(nn.Identity(), (3, 2, 2)) == 0
