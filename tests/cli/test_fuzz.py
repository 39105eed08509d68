"""Random command lines; ``python -m tests.cli.fuzz --lines N --seed S`` runs others."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.fuzz import fuzz


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        pytest.skip("there is no alarm for hangs here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCLD_CACHE", str(tmp_path / "cache"))
    yield tmp_path  # noqa: PT022


def test_random_lines_end_in_one_line_or_do_as_they_say(place: Path) -> None:
    lines, faults = fuzz(place, seed=0, lines=300, seconds=45)
    assert lines >= 30
    assert not faults, "\n".join(f"{fault.number} {fault.words}\n{fault.what}" for fault in faults)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_five_thousand_random_lines(place: Path) -> None:
    lines, faults = fuzz(place, seed=int(os.environ.get("MCLD_FUZZ_SEED", "1")), lines=5000, seconds=3600)
    assert lines >= 1000
    assert not faults, "\n".join(f"{fault.number} {fault.words}\n{fault.what}" for fault in faults)
