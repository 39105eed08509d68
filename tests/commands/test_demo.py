from collections.abc import Callable
from pathlib import Path

import pytest

from mcld.commands import demo
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]


def test_the_demo_ends_with_a_table_and_a_picture(mcld: Mcld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of it, on smaller data and for fewer epochs."""
    monkeypatch.setattr(demo, "DATA", ["data=digits", "threads=1"])
    monkeypatch.setattr(demo, "TEACHER", ["model=resnet8", "schedule.epochs=3"])
    monkeypatch.setattr(demo, "STUDENT", ["student=resnet8", "student.options.width=4", "schedule.epochs=2"])
    status, out, err = mcld("demo", "--run", "demo")
    assert status == 0, err
    root = tmp_path / "demo"
    assert f"learning curves: {Path('demo') / 'curves.png'}" in out
    assert (root / "curves.png").read_bytes().startswith(b"\x89PNG")
    rows = [line for line in (root / "results.md").read_text().splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["teacher", "alone", "KD", "MCLD", "MCLD + KD"]
    assert all(
        len(line) <= 80 for line in out.splitlines() if line.startswith(("trained", "alone", "MCLD", "teacher "))
    )
    summaries = [
        RunDirectory(root / f"alone-seed{seed}").read_json(root / f"alone-seed{seed}" / "summary.json")
        for seed in (1, 2)
    ]
    low, high = sorted(100 * summary["last"]["top1"] for summary in summaries)
    assert f"({low:.1f}–{high:.1f})" in rows[3]
    status, _, err = mcld("demo", "--run", "demo")
    assert status == 2
    assert "exists already; expected a new folder" in err
