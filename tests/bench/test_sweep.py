"""A suite as a Hydra sweep."""

from collections.abc import Callable
from pathlib import Path

import pytest

Mcld = Callable[..., tuple[int, str, str]]
Suite = Callable[..., Path]


def test_a_suite_as_a_hydra_sweep(mcld: Mcld, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = suite(("MCLD: method=mcld", "broken: method=kd schedule.lr=1e9 optimizer.clip=null"), ("[0, 1]", "[0]"))
    monkeypatch.chdir(tmp_path.parent)  # paths of a suite are read from where the command is given
    words = ("bench", str(file), "--out", "results", "--threads", "1", "--hydra", "hydra/launcher=basic")
    status, out, err = mcld(*words)
    assert status == 1
    assert "3 cells, 3 runs left" in out
    assert "1 of 3 cells failed" in err
    assert "small/broken/seed0: the loss term 'ce' became NaN or Inf" in err
    found = tmp_path.parent / "results" / "small"
    assert sorted(file.parent.parent.name for file in found.glob("*/seed0/results.json")) == ["kd", "plain"]
    before = (found / "kd/seed0/results.json").stat().st_mtime_ns
    status, out, err = mcld(*words)
    assert "3 cells, 1 runs left" in out
    assert "1 of 1 cells failed" in err
    assert (found / "kd/seed0/results.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=3", "--hydra seed=3: expected words of Hydra itself, such as hydra/launcher=ray"),
        ("hydra/launcher=none", "Could not find 'hydra/launcher/none'"),
    ],
)
def test_words_that_are_not_for_hydra(mcld: Mcld, suite: Suite, word: str, message: str) -> None:
    status, _, err = mcld("bench", str(suite()), "--hydra", word)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_workers_are_the_launchers(mcld: Mcld, suite: Suite) -> None:
    status, _, err = mcld("bench", str(suite()), "--workers", "2", "--hydra", "hydra/launcher=ray")
    assert status == 2
    assert "--workers 2 with --hydra: the launcher decides how many run at a time" in err
