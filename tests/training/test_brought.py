"""Networks of torchvision and timm that are not like the others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Mcld = Callable[..., tuple[int, str, str]]
QUICK = ["schedule.epochs=1", "threads=1", "data.batch_size=80"]


def test_a_network_with_auxiliary_outputs_is_trained_and_teaches(mcld: Mcld, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        np.savez(tmp_path / split, images=rng.integers(0, 255, (24, 16, 16, 3), np.uint8), labels=np.arange(24) % 2)
    words = ["data=arrays", "data.train=train.npz", "data.val=val.npz", *QUICK, "data.batch_size=12"]
    network = ["model=torchvision/googlenet", "model.options.aux_logits=true", "model.options.init_weights=false"]
    status, out, err = mcld("train", *words, *network, "run=g")
    assert status == 0, err
    assert "model torchvision/googlenet: its auxiliary classifiers (aux1, aux2) are not trained" in out
    teacher = ["teacher=g", "teacher.allow_near_chance=true", "student=resnet8", "student.options.width=2"]
    status, _, err = mcld("distill", *words, *teacher, "run=d")
    assert status == 0, err
    status, _, err = mcld("evaluate", "g", "threads=1")
    assert status == 0, err


INCEPTION = "model=torchvision/inception_v3 model.options.init_weights=false"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (INCEPTION, "model torchvision/inception_v3 does not take images of 8×8 px (Given input size: (64x1x1)"),
        (INCEPTION, "expected at least 75×75 px: data.image_size=75, where there is such an option"),
        (
            "model=timm/resnet18 model.options.features_only=true",
            "gives a list that begins with a tensor (2, 64, 4, 4)",
        ),
        ("model=timm/resnet18 model.options.drop_rate=x", "model timm/resnet18 does not take images of 8×8 px"),
        ("model=timm/resnet18 model.options.num_classes=9", "no option num_classes=9: the classes of the data decide"),
        ("model=timm/resnet18 model.options.num_classes=0", "model timm/resnet18 takes no option num_classes=0"),
        ("model=torchvision/resnet18 model.options.in_chans=1", "no option in_chans=1: the channels of the images"),
        (
            "model=timm/resnet18 model.options.pretrained=true",
            "options.pretrained=True: expected model.pretrained=true",
        ),
    ],
)
def test_what_cannot_be_is_said_by_name(mcld: Mcld, arrays: list[str], words: str, said: str) -> None:
    status, _, err = mcld("train", *arrays, *words.split(), *QUICK, "run=run")
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
