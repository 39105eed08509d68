"""What the formats for weights refuse."""

import pytest
import torch

from mcld.exports import Job
from mcld.exports.repdistiller import RepDistiller
from mcld.models import ModelSpec, Network


@pytest.mark.parametrize(
    ("architecture", "channels", "options"),
    [("resnet8", 1, {}), ("resnet8", 3, {"width": 8}), ("resnet20_a", 3, {}), ("timm/vit_tiny_patch16_224", 3, {})],
)
def test_networks_that_those_code_bases_do_not_have_are_refused(
    architecture: str, channels: int, options: dict[str, int]
) -> None:
    mean = [0.5] * channels
    network = Network(torch.nn.Identity(), ModelSpec(architecture, 4, channels, mean, mean, options=options))
    with pytest.raises(ValueError, match=r"have no .*--format safetensors"):
        RepDistiller().check(Job(network, (8, 8), 8))


def test_a_student_with_its_teachers_classifier_is_refused() -> None:
    network = ModelSpec("resnet8", 4, 3, [0.5] * 3, [0.5] * 3, reused=8).build()
    with pytest.raises(ValueError, match="a teacher's classifier"):
        RepDistiller().check(Job(network, (8, 8), 8))
