"""Somebody's own package: a method, a model, a data set and a logger of it, by name from the command line."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.packages import JS, install

from mcld import KD, LogitMethod, create_method
from mcld.engine.stop import StopRequest
from mcld.methods import Terms
from mcld.registry import REGISTRIES
from mcld.testing import check_data, check_logit_method, check_model, check_two_ranks

Mcld = Callable[..., tuple[int, str, str]]
MODULE = f'''
{JS}
from dataclasses import dataclass
import torch
from torch import nn
from mcld.data import DataOptions, DataSet, tensor_data


@mcld.register_model("tinynet", lr=0.02)
def tinynet(num_classes, in_channels=3, *, width: int = 4):
    layers = [nn.Conv2d(in_channels, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, num_classes))


@dataclass(frozen=True)
class Stripes(DataOptions):
    """Stripes across or down.

    Attributes:
        count: of the training images.
    """

    count: int = 64


@mcld.register_data("stripes", "stripes across or down", needs="packaged")
def stripes(options: Stripes) -> DataSet:
    def part(n):
        labels = torch.arange(n) % 2
        images = torch.zeros(n, 3, 8, 8, dtype=torch.uint8)
        images[:, :, ::2] = 200
        images[labels == 1] = images[labels == 1].mT
        return images, labels

    return tensor_data("stripes", ["across", "down"], part(options.count), part(40), padding=1, flip=False,
                       options=options)


@mcld.register_logger("epochs")
class Epochs(mcld.Logger):
    """The epochs, a line each."""

    file: str = "epochs.txt"

    def start(self, logs):
        self.place = logs.folder / self.file
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self.place.write_text("".join(f"{{row['epoch']:g}}\\n" for row in logs.history))

    def log(self, row):
        with self.place.open("a") as file:
            file.write(f"{{row['epoch']:g}}\\n")
'''
POINTS = {
    "mcld.methods": "js = ownparts:JS",
    "mcld.models": "tinynet = ownparts:tinynet",
    "mcld.data": "stripes = ownparts:stripes",
    "mcld.loggers": "epochs = ownparts:Epochs",
}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    for registry in REGISTRIES.values():
        for name in registry.registered():
            registry.remove(name)


def test_all_parts_of_a_package_by_name_and_over_an_interruption(
    mcld: Mcld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(self: StopRequest) -> StopRequest:
        self.signal = signal.SIGTERM
        return self

    install(tmp_path, monkeypatch, "ownparts", MODULE, POINTS)
    data = ["data=stripes", "data.count=80", "data.batch_size=20", "threads=1"]
    status, _, err = mcld("train", *data, "model=tinynet", "schedule.epochs=6", "run=teacher")
    assert (status, err) == (0, "")
    words = [*data, "teacher=teacher", "student=tinynet", "student.options.width=2", "schedule.epochs=2"]
    words += ["method=[js,kd]", "method.js.temperature=2", "logger=[csv,epochs]", "logger.epochs.file=e.txt", "run=run"]
    words += ["teacher.allow_near_chance=true"]
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__enter__", enter)
        assert mcld("distill", *words)[0] == 128 + signal.SIGTERM
    status, _, err = mcld("resume", "run")
    assert (status, err) == (0, "")
    assert (tmp_path / "run" / "logs" / "epochs" / "e.txt").read_text() == "1\n2\n"
    assert mcld("evaluate", "run")[0] == 0
    (kept,) = json.loads((tmp_path / "run" / "environment.json").read_text())["plugins"]
    assert (kept["package"], kept["version"]) == ("ownparts", "1.2")
    assert set(kept["names"]) == {"method js", "model tinynet", "data stripes", "logger epochs"}
    assert "data.count=64" in mcld("data", "stripes")[1]


def test_the_batteries_for_parts_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "ownparts", MODULE, POINTS)
    method = create_method("js")
    assert isinstance(method, LogitMethod)
    check_logit_method(method)
    check_logit_method(KD())
    check_two_ranks(KD())
    check_model("tinynet")
    check_data("stripes")  # of 40 images they would be the validation images


def test_the_battery_finds_what_is_wrong() -> None:
    class Mixed(LogitMethod):
        requires_global_batch = False

        def terms(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, progress: float) -> Terms:
            return {"mixed": (student.mean(dim=0) - teacher.mean(dim=0)).square().sum()}

    class Ordered(LogitMethod):
        def terms(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, progress: float) -> Terms:
            return {"ordered": (student - teacher.roll(1, dims=0))[0].square().sum()}

    class Detached(LogitMethod):
        def terms(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, progress: float) -> Terms:
            return {"detached": (student * student.detach()).sum()}

    class Numbered(LogitMethod):
        def terms(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, progress: float) -> Terms:
            return {"numbered": ((student - teacher).square() * torch.arange(student.shape[1])).mean()}

    class Narrow(LogitMethod):
        def terms(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, progress: float) -> Terms:
            wide = student.dtype is torch.float64
            return {"narrow": (student - teacher).to(student.dtype if wide else torch.float16).square().mean()}

    wrong = {
        Numbered: "order of the classes",
        Narrow: "float16; expected float32",
        Mixed: "depends on the others of the batch",
        Ordered: "order of the images",
        Detached: "its gradient",
    }
    for method, said in wrong.items():
        with pytest.raises(AssertionError, match=said):
            check_logit_method(method(), compiled=False)
