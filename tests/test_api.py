"""The product from Python: the same as from the command line, with objects in place of names."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

import mcld
from mcld.display import Bar, Display
from mcld.engine.stop import StopRequest

Mcld = Callable[..., tuple[int, str, str]]
QUICK: dict[str, Any] = {"threads": 1, "device": "cpu", "teacher.allow_near_chance": True}
TRAIN = {key: value for key, value in QUICK.items() if not key.startswith("teacher")}


class Small(nn.Module):
    """Somebody's own network."""

    def __init__(self, classes: int = 4, width: int = 8) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, width, 3, stride=2)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(x).relu().mean(dim=(2, 3)))
        return logits


class Noisy(Dataset[Any]):
    """Somebody's own data, with a random augmentation from each of the three sources of random numbers."""

    classes = ("a", "b", "c", "d")

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(count)
        self.targets = [i % 4 for i in range(count)]
        self.pixels = rng.integers(0, 100, (count, 8, 8, 3)).astype(np.uint8)
        for pixels, label in zip(self.pixels, self.targets, strict=True):
            pixels[2 * label : 2 * label + 2] += 100

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        import random

        shift = int(torch.randint(0, 2, ())) + int(np.random.randint(0, 2)) + random.randrange(2)
        return Image.fromarray(np.roll(self.pixels[index], shift, axis=1)), self.targets[index]


def make(seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    return {
        "data": (Noisy(64), Subset(Noisy(32), range(24))),
        "teacher": Small(width=16),
        "student": Small(),
        "method": mcld.KD(temperature=2),
    }


def test_names_give_the_run_of_the_command_line(mcld_line: Mcld, arrays: list[str], teacher: Path) -> None:
    words = [f"teacher={teacher}", "student=resnet8", "student.options.width=2", "method=[mcld,kd]", "seed=3"]
    more = ["schedule.epochs=1", "threads=1", "device=cpu", "run=words"]
    assert mcld_line("distill", *arrays, *words, *more)[0] == 0
    data = {"name": "arrays"} | {w.partition("=")[0][5:]: w.partition("=")[2] for w in arrays[1:]}
    run = mcld.distill(
        data=data,
        teacher=teacher,
        student={"name": "resnet8", "options": {"width": 2}},
        method=["mcld", "kd"],
        epochs=1,
        seed=3,
        run="objects",
        settings={"threads": 1, "device": "cpu"},
        quiet=True,
    )
    assert run.path == Path("objects")
    text = Path("words/config.yaml").read_text()
    assert (run.path / "config.yaml").read_text() == text.replace("run: words", "run: objects")
    assert load_file("words/last.safetensors").keys() == run.model.model.state_dict().keys()
    for key, value in load_file("words/last.safetensors").items():
        assert torch.equal(value, run.model.model.state_dict()[key])
    assert run.summary["last"]["top1"] == run.metrics[-1]["val_top1"] == mcld.evaluate("objects").top1
    assert mcld.evaluate(run.model, data=data).top1 == run.summary["last"]["top1"]
    assert mcld.load("objects", weights="best").spec.architecture == "resnet8"


@pytest.fixture
def mcld_line(mcld: Mcld) -> Mcld:  # the fixture of this name hides the package
    return mcld


def test_objects_leave_a_run_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = make()
    before = {key: value.clone() for key, value in given["teacher"].state_dict().items()}
    run = mcld.distill(**given, epochs=3, batch_size=16, lr=0.05, settings=QUICK, quiet=True)
    assert run.path == Path("runs/distill-Noisy-Small-Small-KD-seed0")
    stored = yaml.safe_load((run.path / "config.yaml").read_text())
    assert stored["resolved"]["objects"] == {"data": "Noisy", "student": "Small", "teacher": "Small", "method": "KD"}
    assert stored["resolved"]["classes"] == ["a", "b", "c", "d"]
    assert stored["student"]["name"] == stored["data"]["name"] == "<object>"
    assert all(torch.equal(value, before[key]) for key, value in given["teacher"].state_dict().items())
    assert run.model.model is given["student"]  # trained in place
    assert mcld.evaluate(given["student"], data=given["data"]).top1 == run.summary["last"]["top1"]
    with pytest.raises(mcld.InputError, match=r"an object from Python that no file can describe; give it one"):
        mcld.load(run.path)
    again = mcld.load(run.path, model=Small())
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(again(images), run.model(images))


def test_an_interrupted_run_of_objects_goes_on_with_them_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mcld_line: Mcld
) -> None:
    options: dict[str, Any] = {"epochs": 2, "batch_size": 16, "settings": QUICK, "quiet": True}
    whole = mcld.distill(**make(), **options, run="whole")

    def enter(self: StopRequest) -> StopRequest:
        self.signal = signal.SIGTERM
        return self

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__enter__", enter)
        with pytest.raises(mcld.Interrupted):
            mcld.distill(**make(), **options, run="stopped")
    status, _, err = mcld_line("resume", "stopped")
    assert (status, err.count("\n")) == (2, 1)
    assert "data (Noisy), student (Small), teacher (Small), method (KD); give them again" in err
    given = make()
    with pytest.raises(mcld.InputError, match=r"objects that no file can describe: student \(Small\)"):
        mcld.resume("stopped", **{key: value for key, value in given.items() if key != "student"})
    with pytest.raises(mcld.InputError, match="the teacher's weights changed since it began"):
        mcld.resume("stopped", **(given | {"teacher": Small(width=16)}), quiet=True)
    with pytest.raises(mcld.InputError, match="the training data changed since it began"):
        mcld.resume("stopped", **(given | {"data": (Noisy(60), Noisy(32))}), quiet=True)
    given = make()
    with torch.no_grad():
        given["student"].head.weight.zero_()  # whatever weights it has: the checkpoint's are taken
    run = mcld.resume("stopped", **given, quiet=True)
    for key, value in load_file("whole/last.safetensors").items():
        assert torch.equal(value, load_file("stopped/last.safetensors")[key])
    assert run.summary["last"] == whole.summary["last"]


def test_a_module_learns_from_named_data_and_a_run(
    arrays: list[str], teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"name": "arrays"} | {w.partition("=")[0][5:]: w.partition("=")[2] for w in arrays[1:]}
    student = Small()
    run = mcld.distill(data=data, teacher=teacher, student=student, epochs=2, settings=TRAIN, quiet=True, run="r")
    assert run.model.spec.mean == mcld.load(teacher).spec.mean  # the data's own, as nobody said otherwise
    assert mcld.evaluate(student, data=data).top1 == run.summary["last"]["top1"]
    assert mcld.resume("r", student=Small(), quiet=True).summary["last"] == run.summary["last"]
    with pytest.raises(mcld.InputError, match="teacher is given, and run r was started with one that it knows"):
        mcld.resume("r", student=Small(), teacher=Small())


def test_images_that_are_normalised_already_are_taken_as_they_are(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    train, val = (TensorDataset(torch.randn(n, 3, 8, 8), torch.arange(n) % 4) for n in (32, 16))
    pair = train, val
    run = mcld.train(data=pair, model=Small(), epochs=1, settings=TRAIN, quiet=True, run="r")
    assert (run.model.spec.mean, run.model.spec.std) == ([0.0] * 3, [1.0] * 3)
    with pytest.raises(mcld.InputError, match=r"expected the same classes in the same order"):
        mcld.distill(data=pair, teacher=teacher, student=Small(), epochs=1, quiet=True)
    train.classes = ["a", "b", "c", "d"]  # type: ignore[attr-defined]  # as torchvision's have them
    with pytest.raises(mcld.InputError, match=r"is normalised already, and teacher .* normalises for itself"):
        mcld.distill(data=pair, teacher=teacher, student=Small(), epochs=1, quiet=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"student": Small(classes=3)}, r"student Small gives \(2, 3\) for 2 images; expected logits \(2, 4\)"),
        ({"teacher": nn.Linear(4, 4)}, r"teacher Linear does not take images of 3×8×8: "),
        ({"teacher": 3}, "teacher is int; expected a name, a run directory or a module"),
        ({"data": Noisy(8)}, r"data is Noisy; expected the name of a data set, a mapping, or two data sets"),
        ({"data": (Noisy(8), [])}, "the validation data is empty"),
        ({"data": ([1, 2], [3])}, r"an item of the training data is int; expected \(image, label\)"),
        ({"method": "kdd"}, "there is no method 'kdd'; did you mean 'kd'"),
        ({"settings": {"optimizer.clop": 1}}, "there is no setting 'optimizer.clop'; did you mean 'optimizer.clip'"),
        ({"settings": {"schedule.epochs": "ten"}, "epochs": None}, "schedule.epochs=ten: expected an integer"),
        ({"settings": {"schedule.epochs": 2}}, "schedule.epochs is given twice"),
        ({"epochs": 0}, "schedule.epochs=0; expected at least 1"),
        ({"teacher": None}, "teacher is not set"),
        ({"method": "mlkd", "settings": {"data.second_policy": "rand"}}, "transforms its images itself"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    change: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mcld.InputError, match=said) as caught:
        mcld.distill(**({**make(), "epochs": 1, "batch_size": 16, "quiet": True} | change))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_published_row_is_so_many_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"published": "cifar100/resnet20", "schedule.epochs": 1}
    run = mcld.train(data=make()["data"], model=Small(), settings={**row, **TRAIN}, quiet=True, run="r")
    stored = yaml.safe_load((run.path / "config.yaml").read_text())
    assert (stored["schedule"]["name"], stored["optimizer"]["weight_decay"], stored["data"]["batch_size"]) == (
        "step",
        5e-4,
        64,
    )


def test_the_same_view_is_the_same_image_and_no_random_number_is_used_up() -> None:
    from mcld.data.own import own_data

    data = own_data(*make()["data"])
    index, view = torch.tensor([3, 3, 3, 3, 3, 3, 3]), torch.tensor([5, 5, 6, 7, 8, 9, 10])
    torch.manual_seed(1)
    before = torch.get_rng_state()
    images = data.train.images(index, view)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images[0], images[1])
    assert len({tuple(image.flatten().tolist()) for image in images}) > 1
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (7, 3, 8, 8))
    assert data.train.views.count is None
    assert data.val.views.count == 1


@pytest.mark.parametrize(("widgets", "drawn"), [(True, True), (False, False)])
def test_a_notebook_has_a_bar_where_it_can_be_drawn(
    widgets: bool, drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.machinery import ModuleSpec

    from rich.console import Console

    found = ModuleSpec("ipywidgets", None) if widgets else None
    monkeypatch.setattr("mcld.display.importlib.util.find_spec", lambda name: found)
    bar = Display(Console(force_jupyter=True)).bar(3, 0, "")
    assert isinstance(bar, Bar)
    assert bar.progress.disable is not drawn


def test_the_examples_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    text = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block.replace("epochs=20", "epochs=2"), {})
    assert (tmp_path / "runs" / "small" / "summary.json").is_file()
    assert (tmp_path / "runs" / "own" / "summary.json").is_file()
