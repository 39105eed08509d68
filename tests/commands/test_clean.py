"""What finished runs no longer need goes; what they are for stays."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mcld.engine.checkpoint import list_checkpoints
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]
WORDS = ["data=digits", "model=resnet8", "model.options.width=2", "threads=1", "report=false"]


@pytest.fixture
def finished(mcld: Mcld) -> RunDirectory:
    status, _, err = mcld("train", *WORDS, "schedule.epochs=3", "run=run")
    assert status == 0, err
    return RunDirectory("run")


def test_a_finished_run_keeps_one_checkpoint_until_it_is_cleaned(mcld: Mcld, finished: RunDirectory) -> None:
    (kept,) = list_checkpoints(finished.checkpoints)
    size = kept.stat().st_size
    status, out, _ = mcld("clean", "run", "--dry-run")
    assert (status, out) == (0, f"run: would give back {size / 1e6:,.1f} MB\n")
    assert list_checkpoints(finished.checkpoints) == [kept]
    status, again, _ = mcld("resume", "run")  # of a finished run it says so, and ends well
    assert status == 0
    assert "training was finished" in again
    before = {file.name: file.read_bytes() for file in finished.path.glob("*.safetensors")}
    assert mcld("clean", "run")[:2] == (0, f"run: gave back {size / 1e6:,.1f} MB\n")
    assert list_checkpoints(finished.checkpoints) == []
    assert {file.name: file.read_bytes() for file in finished.path.glob("*.safetensors")} == before
    assert mcld("clean", "run")[:2] == (0, "run: nothing to delete\n")
    assert mcld("evaluate", "run")[0] == 0
    status, _, err = mcld("resume", "run")
    assert status == 2
    assert err.startswith("mcld: run run is finished and has no checkpoint (mcld clean removes it)")
    assert {file.name: file.read_bytes() for file in finished.path.glob("*.safetensors")} == before


def test_a_run_that_is_not_finished_is_left_alone(mcld: Mcld, finished: RunDirectory) -> None:
    finished.summary.unlink()
    kept = list_checkpoints(finished.checkpoints)
    assert mcld("clean", "run")[::2] == (
        2,
        "mcld: run run is not finished, and goes on from its checkpoints: mcld resume run; to be rid of it, delete its "
        "folder\n",
    )
    assert list_checkpoints(finished.checkpoints) == kept


@pytest.mark.parametrize(("path", "words"), [("nowhere", "nowhere: no such run directory"), ("run2", "no model.json")])
def test_nothing_is_deleted_when_one_of_several_is_wrong(
    mcld: Mcld, finished: RunDirectory, path: str, words: str
) -> None:
    Path("run2").mkdir()
    for name in ("config.yaml", "environment.json"):
        (Path("run2") / name).touch()
    status, _, err = mcld("clean", "run", path)
    assert status == 2
    assert words in err
    assert len(list_checkpoints(finished.checkpoints)) == 1
