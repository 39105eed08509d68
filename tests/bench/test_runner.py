import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from mcld.bench.cell import run_cell
from mcld.bench.runner import Bench
from mcld.bench.suite import Cell
from mcld.bench.suite_file import read_suite
from mcld.engine.stop import Interrupted
from mcld.errors import RunError
from mcld.files import lock_file

Suite = Callable[..., Path]
Mcld = Callable[..., tuple[int, str, str]]

CHILD = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
run, action = sys.argv[1:]
open(run.replace("/", "_") + ".started", "w").write(str(time.monotonic()))
if action == "fail":
    sys.exit("mcld: the loss term 'kl' became NaN")
time.sleep(60 if action == "wait" else 0.1)
open(run.replace("/", "_") + ".ended", "w").write(str(time.monotonic()))
"""


class Fake(Bench):
    """Its cells do next to nothing."""

    actions: dict[str, str]

    def command(self, cell: Cell, suite: Path) -> list[str]:
        return [sys.executable, "-c", CHILD, cell.id, self.actions.get(cell.id, "end")]


@pytest.fixture
def make(suite: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Fake]:
    monkeypatch.setattr("mcld.bench.runner._outcome", lambda cell: "done")
    monkeypatch.setattr(Cell, "finished", lambda self: Path(self.id.replace("/", "_") + ".ended").exists())

    def build(workers: int = 2, *replaced: tuple[str, str], **actions: str) -> Fake:
        read = read_suite(str(suite(*replaced)))
        console = Console(file=(tmp_path / "out.txt").open("a"), highlight=False, soft_wrap=True)
        bench = Fake(read, read.cells(), workers=workers, threads=1, console=console)
        bench.actions = {key.replace("_", "/"): action for key, action in actions.items()}
        return bench

    return build


def test_a_failed_cell_is_reported_and_does_not_stop_the_rest(make: Callable[..., Fake], tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        make(small_kd_seed0="fail").run()
    assert str(error.value).startswith("1 of 6 cells failed; the same command tries them again:")
    assert "small/kd/seed0: the loss term 'kl' became NaN (log: " in str(error.value)
    assert len(list(tmp_path.glob("*.ended"))) == 5
    bench = make()
    assert [cell.id for cell in bench.waiting] == ["small/kd/seed0"]  # the finished are not run again
    bench.run()
    out = (tmp_path / "out.txt").read_text()
    assert "tiny: 6 cells, 0 finished before; 2 at a time, 1 thread each" in out
    assert "[6/6] small/kd/seed0  done" in out
    make().run()
    assert "all 6 cells are finished" in (tmp_path / "out.txt").read_text().splitlines()[-1]


def test_no_more_at_a_time_than_the_workers(make: Callable[..., Fake], tmp_path: Path) -> None:
    make(3).run()
    spans = [
        (float(file.read_text()), float(file.with_suffix(".ended").read_text())) for file in tmp_path.glob("*.started")
    ]
    assert len(spans) == 6
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) <= 3


def test_asked_to_stop_it_stops_its_cells_in_order(make: Callable[..., Fake], tmp_path: Path) -> None:
    bench = make(1, small_kd_seed0="wait")

    def stop() -> None:
        while not (tmp_path / "small_kd_seed0.started").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Interrupted, match="stopped with 5 of 6 cells left; go on with: mcld bench"):
        bench.run()
    assert bench.running == []
    assert not bench.failed


def test_what_another_process_runs_is_passed_over_until_it_is_done(make: Callable[..., Fake], tmp_path: Path) -> None:
    bench = make(2)
    cell = bench.waiting[0]
    cell.run.parent.mkdir(parents=True)
    name = cell.id.replace("/", "_")
    held = threading.Event()

    def hold() -> None:
        with lock_file(cell.run.parent / f".{cell.run.name}.lock"):
            held.set()
            time.sleep(1.5)
            Path(f"{name}.ended").write_text("0")

    holding = threading.Thread(target=hold)
    holding.start()
    held.wait()
    bench.run()
    holding.join()
    out = (tmp_path / "out.txt").read_text()
    assert f"{cell.id}  is being run by process {os.getpid()}; passed over until that is done" in out
    assert f"[6/6] {cell.id}  was finished by another process: done" in out
    assert not (tmp_path / f"{name}.started").exists()
    assert len(list(tmp_path.glob("*.started"))) == 5


def test_a_cell_that_another_process_has_is_waited_for(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = read_suite(str(suite()))
    cell = read.cells()[0]
    cell.run.parent.mkdir(parents=True)
    monkeypatch.setattr(Cell, "finished", lambda self: Path("done").exists())

    def hold() -> None:
        with lock_file(cell.run.parent / f".{cell.run.name}.lock"):
            held.set()
            time.sleep(1.5)
            Path("done").write_text("")

    held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    run_cell(cell)
    thread.join()
    assert f"{cell.id}: waiting for process {os.getpid()}, which is running it" in capsys.readouterr().out
    assert not cell.run.exists()


@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0, 2.5])
def test_a_bench_that_is_killed_leaves_no_cell_running(suite: Suite, tmp_path: Path, delay: float) -> None:
    """At whatever moment of their start."""
    file = suite(("schedule.epochs=2", "schedule.epochs=2000"))
    command = [sys.executable, "-m", "mcld", "bench", str(file), "--workers", "2", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not (cells := children(process.pid)) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(delay)
    cells = cells | children(process.pid)
    process.kill()
    process.wait()
    assert cells
    deadline = time.monotonic() + 25
    while cells and time.monotonic() < deadline:
        cells = {pid for pid in cells if alive(pid)}
        time.sleep(0.05)
    for pid in cells:
        os.kill(pid, signal.SIGKILL)
    assert not cells


def children(pid: int) -> set[int]:
    try:
        return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_paths_are_shown_as_they_are(mcld: Mcld, suite: Suite, tmp_path: Path) -> None:
    """Not as markup, and nothing in them steers the terminal."""
    file = suite()
    file.rename(odd := tmp_path / "[red]:car:.yaml")
    status, out, err = mcld("bench", str(odd), "--out", "[x]\x1b[31m:car:", "--dry-run")
    assert status == 2
    odd.rename(file)
    status, out, err = mcld("bench", str(file), "--out", "[x]\x1b[31m:car:", "--dry-run")
    assert status == 0, err
    assert out.endswith("6 cells, 6 not finished; in [x]\\x1b[31m:car:\n")


def test_killed_it_goes_on_where_it_was(suite: Suite, tmp_path: Path) -> None:
    """The whole of it, on the command line: teacher, two students, killed in between."""
    text = ("MCLD: method=mcld", "broken: method=kd schedule.lr=1e9 optimizer.clip=null")
    file = suite(("schedule.epochs=2", "schedule.epochs=40"), ("seeds: [0, 1]", "seeds: [0]"), text)
    words = [
        line if not line.startswith("teacher:") else "teacher: {train: model=resnet8 schedule.epochs=4}"
        for line in file.read_text().splitlines()
    ]
    file.write_text("\n".join(words))
    command = [sys.executable, "-m", "mcld", "bench", str(file), "--threads", "1"]
    process = subprocess.Popen(command)
    half = tmp_path / "runs/tiny/small/kd/seed0/metrics.csv"
    while not half.exists() and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    first = tmp_path / "runs/tiny/small/plain/seed0/results.json"
    stamp = first.stat().st_mtime_ns
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1, again.stderr
    assert "1 of 3 cells failed" in again.stderr
    assert "small/broken/seed0: the loss term 'ce' became NaN or Inf" in again.stderr
    assert first.stat().st_mtime_ns == stamp
    log = (tmp_path / "runs/tiny/small/kd/seed0/log.txt").read_text()
    assert "going on with epoch" in log
    assert (tmp_path / "runs/tiny/small/kd/seed0/results.json").exists()


def test_the_command_line(mcld: Mcld, suite: Suite) -> None:
    file = str(suite())
    status, out, err = mcld("bench", file, "--dry-run", "--only", "KD")
    assert status == 0, err
    assert [line.split()[:3] for line in out.splitlines()[:2]] == [
        ["to", "do", "small/kd/seed0"],
        ["to", "do", "small/kd/seed1"],
    ]
    assert "2 cells, 2 not finished; in runs/tiny" in out
    for words, message in (
        (["--workers", "0"], "--workers 0; expected at least 1"),
        (["--only", "KDD"], "there is no cell 'KDD'; did you mean 'KD'?"),
        (["--cell", "small/kd"], "there is no cell 'small/kd'"),
    ):
        status, _, err = mcld("bench", file, *words)
        assert status == 2
        assert message in err
