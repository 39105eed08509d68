"""What ``mcld evaluate`` says: the images, the classes, the calibration, and the confusion matrix as a file."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import mcld as package
from mcld.assembly.networks import load_run
from mcld.data import load_data
from mcld.evaluation.calibration import calibration_error

Mcld = Callable[..., tuple[int, str, str]]


def test_everything_is_said_and_written(mcld: Mcld, teacher: Path, arrays: list[str], tmp_path: Path) -> None:
    given = dict(word.removeprefix("data.").split("=") for word in arrays)
    split = load_data("arrays", train=given["train"], val=given["val"]).val
    everything = torch.arange(len(split))
    network = load_run(str(teacher)).eval()
    with torch.no_grad():
        logits = network(split.images(everything, torch.full_like(everything, split.views.center)))
    found = package.evaluate(teacher, settings={"threads": 1})
    assert found.predicted.tolist() == logits.argmax(dim=1).tolist()
    assert found.calibration_error == pytest.approx(calibration_error(logits, split.labels), abs=1e-4)
    scaled = calibration_error(logits / network.spec.temperature, split.labels)
    assert found.calibrated_error == pytest.approx(scaled, abs=1e-4)
    assert [row.name for row in found.per_class] == ["a", "b", "c", "d"]
    assert sum(row.right for row in found.per_class) / 60 == found.top1
    status, out, err = mcld("evaluate", str(teacher), "threads=1", "--out", "tables")
    assert status == 0, err
    assert "data arrays: 60 validation images, 4 classes, 8×8 px" in out
    assert "padding" not in out  # of training crops
    assert f"calibration error {found.calibration_error:.2%} as trained, {found.calibrated_error:.2%} at" in out
    worst = min(found.per_class, key=lambda row: (row.accuracy, row.name))
    assert f"{worst.accuracy:6.1%}  {worst.name} ({worst.right} of 15)" in out
    with (tmp_path / "tables/confusion.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["is / says", "0 a", "1 b", "2 c", "3 d"]
    matrix = torch.tensor([[int(cell) for cell in row[1:]] for row in rows[1:]])
    for actual, said in zip(split.labels.tolist(), found.predicted.tolist(), strict=True):
        matrix[actual, said] -= 1
    assert not matrix.any()
    with (tmp_path / "tables/classes.csv").open() as file:
        assert [int(row["right"]) for row in csv.DictReader(file)] == [row.right for row in found.per_class]
    status, out, err = mcld("evaluate", str(teacher), "threads=1", "--out", "tables")
    assert (status, out) == (2, "")
    assert err == "mcld: tables/confusion.csv exists already; choose another --out, or replace it with --force\n"
    assert mcld("evaluate", str(teacher), "threads=1", "--out", "tables", "--force")[0] == 0
    (tmp_path / "file").touch()
    assert "--out file is a file; expected a folder" in mcld("evaluate", str(teacher), "--out", "file")[2]
    assert "there is no folder no" in mcld("evaluate", str(teacher), "--out", "no/where")[2]


def test_weights_without_a_temperature(mcld: Mcld, teacher: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(teacher, tmp_path / "run"))
    other = load_run("run")
    torch.nn.init.zeros_(next(other.model.parameters()))
    from mcld.models.network import save_weights

    save_weights(other, run / "best.safetensors")
    found = package.evaluate("run", settings={"threads": 1, "model.weights": "best"})
    assert (found.temperature, found.calibrated_error) == (None, None)
