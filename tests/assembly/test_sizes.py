"""The size that a network was trained at is the size that it gets, or another one is said."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcld.assembly.network_options import NetworkSettings as Settings
from mcld.assembly.sizes import common_size, design_warning, run_size, size_warning
from mcld.configs.compose import settings_from_yaml
from mcld.models import ModelSpec
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]
QUICK = ["schedule.epochs=1", "threads=1", "data.batch_size=12", "data.cache=off", "data.workers=0"]


@pytest.fixture
def photos(mcld: Mcld, tmp_path: Path) -> list[str]:
    """The words for photos of 64 px, beside a run T that was trained on them at 16 px."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(("dark", "light")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(12):
                image = rng.integers(0, 100, (64, 64, 3)) + 120 * label
                Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
    words = ["data=folder", "data.path=photos"]
    assert mcld("train", *words, *QUICK, "data.image_size=16", "model=resnet8", "run=T")[0] == 0
    return words


def test_a_runs_own_size_is_used_and_said(mcld: Mcld, photos: list[str], tmp_path: Path) -> None:
    assert (run_size("T"), common_size(["T"]), run_size("photos")) == ([16, 16], 16, [])
    said = "images of 16 px, as {} T was trained on; for others: data.image_size=N"
    quick = [word for word in QUICK if not word.startswith("schedule")]
    status, out, err = mcld("evaluate", "T", *photos, *quick)
    assert (status, err) == (0, "")
    assert said.format("model") in out
    assert "2 classes, resize 18, center crop 16, RGB\n" in out
    student = ["teacher=T", "teacher.allow_near_chance=true", "student=resnet8", "student.options.width=2"]
    status, out, err = mcld("distill", *photos, *QUICK, *student, "run=D")
    assert status == 0, err
    assert said.format("teacher") in out
    assert settings_from_yaml(tmp_path / "D" / "config.yaml").data.image_size == 16
    assert run_size("D") == [16, 16]
    assert mcld("resume", "D")[0] == 0
    status, out, _ = mcld("teacher-logits", *photos, *quick, *student[:2], "teacher.views=2")
    assert (status, said.format("teacher") in out) == (0, True)
    status, out, _ = mcld("transfer", "T", *photos, *quick, "--protocol", "probe", "run=t")
    assert (status, "2 classes, 16×16 px" in out) == (0, True)
    assert "warning" not in out
    status, out, _ = mcld("export", "T", "--format", "safetensors", "--out", "e")
    assert (status, "it was trained on images of 16×16 px scaled to 0..1" in out) == (0, True)


def test_another_size_is_said_with_both(mcld: Mcld, photos: list[str]) -> None:
    said = "T was trained on images of 16×16 px and gets 32×32 px: expect worse answers"
    quick = [word for word in QUICK if not word.startswith("schedule")]
    status, out, _ = mcld("evaluate", "T", *photos, *quick, "data.image_size=32")
    assert (status, f"warning: model {said}" in out) == (0, True)
    student = ["teacher=T", "teacher.allow_near_chance=true", "student=resnet8", "student.options.width=2"]
    status, out, _ = mcld("distill", *photos, *QUICK, *student, "data.image_size=32", "run=D")
    assert (status, f"warning: teacher {said}" in out) == (0, True)
    status, out, _ = mcld("transfer", "T", *photos, *quick, "data.image_size=32", "--protocol", "probe", "run=t")
    assert (status, "warning: T was trained on images of 16×16 px; these are 32×32 px" in out) == (0, True)


def test_weights_of_others() -> None:
    def said(architecture: str, settings: Settings, size: tuple[int, int]) -> str:
        spec = ModelSpec(architecture, 3, 3, mean=[0.5] * 3, std=[0.5] * 3)
        return "".join(size_warning(spec.build(), "teacher x", settings, size))

    bare = Settings(name="x", checkpoint="x.pth")
    assert (
        "x does not say what its checkpoint was trained on, and is made for images of 32×32 px and gets 96×96 px"
        in said("resnet8", bare, (96, 96))
    )
    assert said("resnet8", bare, (32, 32)) == said("resnet8", Settings(name="x"), (96, 96)) == ""
    published = Settings(name="x", pretrained=True)
    for name in ("timm/resnet10t", "torchvision/squeezenet1_1"):
        found = said(name, published, (32, 32))
        assert "warning: teacher x has weights that were trained on images of" in found
        assert "px and gets 32×32 px" in found
        assert "224" in found or "176" in found
    assert RunDirectory.is_run("x") is False


def test_a_network_of_the_cifar_tables_for_photographs_is_told() -> None:
    def said(name: str, size: int) -> list[str]:
        spec = ModelSpec(name, 10, 3, [0.5] * 3, [0.5] * 3, image_size=[size, size])
        return design_warning(spec.build(), "student", [size, size])

    assert said("resnet8", 32) == said("resnet8", 64) == said("torchvision/resnet18", 224) == []
    (line,) = said("ResNet18", 224)
    assert re.fullmatch(
        r"warning: student is the network ResNet18 of the CIFAR tables, made for 32 px: an image of 224×224 px takes "
        r"it 27,\d{3} MMACs, 49 times as long; for photographs: torchvision/resnet18",
        line,
    )
    assert said("MobileNetV2", 96)[0].endswith("for photographs: torchvision/mobilenet_v2")
