"""Weights that changed on disk after they were written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mcld.models._digest import Digests
from mcld.models._reading import read_digests

Mcld = Callable[..., tuple[int, str, str]]
STUDENT = ["student=resnet8", "student.options.width=2", "schedule.epochs=1", "threads=1"]


def kept_of(run: Path) -> Digests | None:
    return read_digests(run / "last.safetensors")


@pytest.fixture
def damaged(teacher: Path, tmp_path: Path) -> Path:
    """The teacher with one flipped bit in each of its weights."""
    run = tmp_path / "damaged"
    shutil.copytree(teacher, run)
    for which in ("last", "best"):
        file = run / f"{which}.safetensors"
        data = bytearray(file.read_bytes())
        data[-9] ^= 4
        file.write_bytes(data)
    return run


def test_the_digest_is_shown(mcld: Mcld, teacher: Path) -> None:
    for which in ("last", "best"):
        status, out, err = mcld("evaluate", str(teacher), f"model.weights={which}", "threads=1")
        assert (status, err) == (0, "")
        kept = read_digests(teacher / f"{which}.safetensors")
        assert kept is not None
        assert f"model {teacher}: {which} weights, sha256 {kept.weights[:16]}, as they were written\n" in out
    status, out, _ = mcld("export", str(teacher), "--format", "safetensors", "--out", "e")
    assert (status, "last weights, sha256 " in out) == (0, True)
    assert read_digests(Path("e/model.safetensors")) == kept_of(teacher)


def test_no_command_takes_damaged_weights(mcld: Mcld, arrays: list[str], damaged: Path, teacher: Path) -> None:
    for words in (
        ["evaluate", "damaged"],
        ["evaluate", "damaged", "model.weights=best"],
        ["export", "damaged", "--format", "safetensors", "--out", "e"],
        ["export", "damaged", "--format", "repdistiller", "--weights", "best", "--out", "e"],
        ["transfer", "damaged", *arrays, "run=t"],
        ["distill", *arrays, "teacher=damaged", *STUDENT, "run=r"],
        ["distill", *arrays, f"teacher={teacher}", *STUDENT[2:], "student=damaged", "run=r"],
        ["train", *arrays, "model=damaged", "threads=1", "run=r"],
        ["teacher-logits", *arrays, "teacher=damaged"],
        ["train", *arrays, "model=resnet8", "model.checkpoint=damaged/last.safetensors", "run=r"],
    ):
        status, _, err = mcld(*words)
        assert status == 2, words
        assert ".safetensors is damaged: its weights do not match the digest that was written with them" in err
        assert ("mcld resume damaged" in err) == ("model.checkpoint" not in " ".join(words))
        assert err.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["damaged"]


def test_a_run_writes_its_weights_anew(mcld: Mcld, damaged: Path, teacher: Path) -> None:
    assert mcld("resume", "damaged")[0] == 0
    for which in ("last", "best"):
        assert (damaged / f"{which}.safetensors").read_bytes() == (teacher / f"{which}.safetensors").read_bytes()


def test_a_run_does_not_go_on_with_a_teacher_that_is_damaged(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    shutil.copytree(teacher, "T")
    assert mcld("distill", *arrays, "teacher=T", *STUDENT, "run=r")[0] == 0
    file = tmp_path / "T" / "last.safetensors"
    data = bytearray(file.read_bytes())
    data[-9] ^= 4
    file.write_bytes(data)
    status, _, err = mcld("resume", "r")
    assert (status, "T/last.safetensors is damaged" in err) == (2, True)


def test_a_run_of_an_earlier_version_works_and_it_is_said(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    shutil.copytree(teacher, "old")
    save_file(load_file("old/last.safetensors"), "old/last.safetensors")
    status, out, err = mcld("evaluate", "old")
    assert (status, err) == (0, "")
    assert "old: last weights, without a digest (of an earlier mcld): damage to them would not be noticed" in out
    status, out, err = mcld("distill", *arrays, "teacher=old", *STUDENT, "run=r")
    assert (status, "teacher old: last weights, without a digest" in out) == (0, True)


def test_a_model_json_that_changed_is_said(mcld: Mcld, teacher: Path) -> None:
    shutil.copytree(teacher, "edited")
    spec = json.loads(Path("edited/model.json").read_text())
    spec["mean"][0] += 0.01
    Path("edited/model.json").write_text(json.dumps(spec))
    status, out, _ = mcld("evaluate", "edited")
    assert (status, "warning: model.json beside them has changed since (damaged, or edited)" in out) == (0, True)
    assert "warning" not in mcld("evaluate", str(teacher))[1]


def test_a_student_that_began_as_a_run_goes_on(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    shutil.copytree(teacher, "T")
    assert mcld("train", *arrays, "model=T", "schedule.epochs=1", "threads=1", "run=r")[0] == 0
    status, _, err = mcld("resume", "r")
    assert (status, err) == (0, "")
