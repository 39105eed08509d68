"""Networks of torchvision and timm that are not like the others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]
QUICK = ["schedule.epochs=1", "threads=1", "data.batch_size=80"]


def test_inception_takes_smaller_images_without_its_auxiliary_classifier(mcld: Mcld, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (8, 75, 75, 3), np.uint8)
    np.savez(tmp_path / "few", images=images, labels=np.arange(8) % 2)
    words = ["data=arrays", "data.train=few.npz", "data.val=few.npz", *QUICK, "data.batch_size=4", *INCEPTION.split()]
    status, _, err = mcld("train", *words, "model.options.aux_logits=true", "--dry-run")
    assert (status, err.count("\n")) == (2, 1)
    assert "does not take images of 75×75 px" in err
    assert "expected larger images, or a network without auxiliary classifiers: options.aux_logits=false" in err
    status, _, err = mcld("train", *words, "model.options.aux_logits=false", "run=i")
    assert status == 0, err
    assert RunDirectory("i").summary.is_file()


def test_a_network_with_auxiliary_outputs_is_trained_and_teaches(mcld: Mcld, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        np.savez(tmp_path / split, images=rng.integers(0, 255, (8, 16, 16, 3), np.uint8), labels=np.arange(8) % 2)
    words = ["data=arrays", "data.train=train.npz", "data.val=val.npz", *QUICK, "data.batch_size=4"]
    network = ["model=torchvision/googlenet", "model.options.aux_logits=true", "model.options.init_weights=false"]
    status, out, err = mcld("train", *words, *network, "run=g")
    assert status == 0, err
    assert "model torchvision/googlenet: its auxiliary classifiers (aux1, aux2) are trained, too (ce_aux)" in out
    assert RunDirectory("g").read_metrics()[0]["ce_aux"] > 0
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
            "gives a tuple whose first is of shape (2, 64, 4, 4); expected (B, C)",
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


def test_classes_that_are_numbers_in_the_order_of_text(mcld: Mcld, tmp_path: Path) -> None:
    """A bare checkpoint that was trained on 0, 1, …, 11 teaches over classes 0, 1, 10, 11, 2, …"""
    rng = np.random.default_rng(0)
    label = np.arange(96) % 12
    images = rng.integers(0, 40, (96, 8, 8, 3)) + 18 * label[:, None, None, None]
    text = sorted(map(str, range(12)))
    np.savez(
        tmp_path / "numbers", images=images.astype(np.uint8), labels=label, names=np.array(list(map(str, range(12))))
    )
    other = np.array([text.index(str(n)) for n in label])
    np.savez(tmp_path / "text", images=images.astype(np.uint8), labels=other, names=np.array(text))
    quick = ["threads=1", "data.batch_size=32", "data.padding=0"]
    data = ["data=arrays", "data.train=numbers.npz", "data.val=numbers.npz", *quick]
    assert mcld("train", *data, "model=resnet8", "schedule.epochs=40", "run=t")[0] == 0
    data = ["data=arrays", "data.train=text.npz", "data.val=text.npz", *quick]
    words = ["teacher=resnet8", "teacher.checkpoint=t/last.safetensors", "student=resnet8", "schedule.epochs=1"]
    status, out, err = mcld("distill", *data, *words, "run=d")
    assert status == 2
    assert "warning: teacher resnet8: its weights do not say which output is which class" in out
    assert (
        "teacher resnet8 has its classes in the order of numbers, and the data in the order of text (0, 1, 10, 11"
        in err
    )
    assert not (tmp_path / "d").exists()
    status, out, err = mcld("distill", *data, *words, "teacher.allow_near_chance=true", "run=d")
    assert status == 0, err
