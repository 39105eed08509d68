"""``data.sampler=balanced`` in a run, with a teacher and its store."""

from collections.abc import Callable
from pathlib import Path

Mcld = Callable[..., tuple[int, str, str]]


def test_a_balanced_run(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    words = [*arrays, f"teacher={teacher}", "student=resnet8", "schedule.epochs=2", "threads=1", "report=false"]
    status, _, err = mcld("distill", *words, "data.sampler=balanced", "run=a")
    assert status == 0, err
    status, out, err = mcld("evaluate", "a")
    assert status == 0, err
    assert ", macro-F1 " in out
    status, _, err = mcld("distill", *words, "data.sampler=even", "run=b")
    assert status == 2
    assert "data.sampler" in err
    assert "expected one of none, balanced" in err
