import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mcld import create_model, load_checkpoint
from mcld.assembly.networks import load_run
from mcld.models import ModelSpec

Mcld = Callable[..., tuple[int, str, str]]


def _equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return list(one) == list(two) and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("weights", ["last", "best"])
def test_repdistiller_is_read_back_by_its_own_way_and_by_ours(
    mcld: Mcld, teacher: Path, tmp_path: Path, weights: str
) -> None:
    status, out, _ = mcld("export", str(teacher), "--format", "repdistiller", "--weights", weights, "--out", "t")
    assert status == 0
    assert 'model_dict["resnet8"](num_classes=4)' in out
    ours = load_run(str(teacher), weights).model
    there = create_model("resnet8", num_classes=4)
    there.load_state_dict(torch.load(tmp_path / "t" / "model.pth", weights_only=True)["model"])
    assert _equal(ours, there)
    here = create_model("resnet8", num_classes=4)
    load_checkpoint(here, tmp_path / "t" / "model.pth")
    assert _equal(ours, here)


def test_safetensors_hold_all_that_rebuilds_the_network(mcld: Mcld, teacher: Path, tmp_path: Path) -> None:
    status, out, _ = mcld("export", str(teacher), "--format", "safetensors", "--out", "plain", "--threads", "1")
    assert status == 0
    spec = ModelSpec.from_dict(json.loads((tmp_path / "plain" / "model.json").read_text()))
    made = spec.build()
    load_checkpoint(made, tmp_path / "plain" / "model.safetensors")
    ours = load_run(str(teacher))
    assert spec == ours.spec
    assert _equal(ours.model, made.model)
    head, mine, exported = (
        line for line in out.splitlines() if "PyTorch" in line or "export  " in line or "MB" in line
    )
    assert head.split("  ")[0] == ""
    found = json.loads((tmp_path / "plain" / "model.safetensors.json").read_text())
    top1 = json.loads((teacher / "summary.json").read_text())["last"]["top1"]
    assert found["images"] == {"kind": "validation", "count": 60}
    assert [row["top1"] for row in found["rows"]] == pytest.approx([top1, top1])
    assert f"{top1:.2%}" in mine
    assert f"{top1:.2%}" in exported
    assert (found["rows"][1]["difference"], found["rows"][1]["agreement"]) == (0, 1)
    for row in found["rows"]:
        for size in ("1", "32"):
            assert 0 < row["latency"][size]["median_ms"] <= row["latency"][size]["p95_ms"]
    assert found["measured_on"]["threads"] == 1


def test_without_a_name_it_is_in_the_run(mcld: Mcld, teacher: Path) -> None:
    assert mcld("export", str(teacher), "--format", "repdistiller")[0] == 0
    assert (teacher / "export" / "model.pth").is_file()
    assert mcld("export", str(teacher), "--format", "repdistiller", "--weights", "best")[0] == 0
    assert (teacher / "export-best" / "model.pth").is_file()


@pytest.mark.parametrize(("format", "file"), [("repdistiller", "model.pth"), ("safetensors", "model.json")])
def test_nothing_is_replaced_without_force(mcld: Mcld, teacher: Path, tmp_path: Path, format: str, file: str) -> None:
    words = ("export", str(teacher), "--format", format, "--out", "x")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / file).write_text("mine")
    status, _, err = mcld(*words)
    assert (status, f"x/{file} exists already" in err, "--force" in err) == (2, True, True)
    assert [path.name for path in (tmp_path / "x").iterdir()] == [file]
    assert (tmp_path / "x" / file).read_text() == "mine"
    assert mcld(*words, "--force")[0] == 0
    assert (tmp_path / "x" / file).read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "--format", "safetensors"], "nowhere: no such run directory"),
        (["RUN", "--format", "onxn"], "there is no export format 'onxn'; did you mean 'onnx'?"),
        (["RUN"], "--format"),
        (["RUN", "--format", "safetensors", "--weights", "mean"], "weights='mean'"),
        (["RUN", "--format", "safetensors", "--out", "no/folder"], "there is no folder no"),
        (["RUN", "--format", "safetensors", "--no-preprocess"], "leave --no-preprocess out"),
        (["RUN", "--format", "safetensors", "--threads", "0"], "threads is 0; expected a number from 1 to 1024"),
        (["RUN", "--format", "safetensors", "--out", "x" * 300], "File name too long; choose another"),
        (["RUN", "--format", "safetensors", "--out", "FILE"], "is a file; expected a folder"),
    ],
)
def test_bad_input_is_one_line(mcld: Mcld, teacher: Path, words: list[str], said: str) -> None:
    given = {"RUN": str(teacher), "FILE": str(teacher / "model.json")}
    status, _, err = mcld("export", *(given.get(word, word) for word in words))
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert not list(Path().iterdir())
