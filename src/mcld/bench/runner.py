"""Runs the cells of a suite, several at a time, each in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mcld.assembly.limits import check_settings
from mcld.assembly.parts import build_method
from mcld.bench.cell import in_use, keep
from mcld.bench.orphan import PARENT
from mcld.bench.suite import Cell, Suite, key_of
from mcld.configs.schema import Distill
from mcld.engine.stop import Interrupted, StopRequest
from mcld.errors import InputError, RunError
from mcld.files import atomic_write_bytes, open_descriptor, read_file
from mcld.plugins import plugin_words
from mcld.runs import RunDirectory
from mcld.text import printable

POLL = 0.2


def prepare(suite: Suite, cells: Sequence[Cell]) -> list[Cell]:
    """Check every cell before any starts; the cells that are not finished, the teacher first.

    Raises:
        InputError: for the first whose settings cannot work, or that was measured with other settings.
    """
    for cell in cells:
        settings = cell.settings()
        assert isinstance(settings, Distill)
        try:
            check_settings(settings)
            build_method(settings.method)
        except InputError as error:
            raise InputError(f"{cell.id}: {error}") from error
        cell.test_data()
    left = []
    for cell in cells:
        if cell.finished():
            keep(cell)
        else:
            left.append(cell)
    teacher = suite.teacher_cell
    if teacher is None:
        assert isinstance(suite.teacher, str)
        # A network by name needs weights, from a file or from those who publish it.
        given = {key_of(word) for cell in left for word in cell.words}
        if left and not RunDirectory.is_run(suite.teacher) and not given & {"teacher.checkpoint", "teacher.pretrained"}:
            raise InputError(
                f"{suite.file}: teacher is {suite.teacher!r}, which is no run directory; for a network of this name "
                "add teacher.checkpoint=FILE to common"
            )
    elif left and not teacher.finished():
        check_settings(teacher.settings())
        left.insert(0, teacher)
    return left


@dataclass
class _Running:
    cell: Cell
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    log_path: Path
    epochs: int
    started: float = field(default_factory=time.monotonic)
    first_epochs: int = 0

    @property
    def epochs_done(self) -> int:
        return _epochs_done(self.cell)


class Bench:
    """Runs cells in processes of their own, so that one that dies takes nothing with it.

    Args:
        suite: that the cells are of.
        cells: of the whole request, finished ones included.
        workers: processes at a time.
        threads: CPU threads of each.
        console: where to print.
    """

    def __init__(self, suite: Suite, cells: Sequence[Cell], *, workers: int, threads: int, console: Console) -> None:
        self.suite, self.workers, self.threads, self.console = suite, workers, threads, console
        left = prepare(suite, cells)
        self.total = len(cells) + sum(cell.command == "train" for cell in left)
        self.done = self.total - len(left)
        self.waiting = deque(left)
        self.running: list[_Running] = []
        self.failed: dict[str, str] = {}
        self.passed_over: set[str] = set()
        self.look_again = 0.0
        self.epochs = {cell.id: cell.settings().schedule.epochs for cell in left}
        self.epochs_run, self.busy_seconds = 0, 0.0

    def run(self) -> None:
        """Run everything that is left.

        Raises:
            RunError: when cells failed; the others have been run.
            Interrupted: when asked to stop; the cells' states are saved.
        """
        if not self.waiting:
            self._print(f"all {self.total} cells are finished; the report: mcld bench {self.suite.file} --report")
            return
        snapshot = self.suite.out / "suites" / f"{self.suite.name}.yaml"
        snapshot.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(snapshot, read_file(self.suite.file))  # what edits do not reach
        self._print(
            f"{self.suite.name}: {self.total} cells, {self.done} finished before; {self.workers} at a time, "
            f"{self.threads} thread{'s' * (self.threads > 1)} each; in {self.suite.out}"
        )
        asked: int | None = None
        live = Live(console=self.console, transient=True, auto_refresh=False, get_renderable=self._picture)
        with StopRequest() as stop, live if self.console.is_terminal else _Silent():
            try:
                while self.running or (self.waiting and asked is None):
                    if stop.signal is not None and asked is None:
                        asked = stop.signal
                        self._print("stopping: the running cells save their state")
                        self._tell(signal.SIGTERM)
                    while asked is None and self._may_start() and (cell := self._next()) is not None:
                        self._start(cell, snapshot)
                    self._reap(asked)
                    if self.console.is_terminal:
                        live.refresh()
                    time.sleep(POLL)
            except BaseException:  # asked a second time, or a mistake of ours: nothing may be left running
                self._tell(signal.SIGKILL)
                raise
        if asked is not None:
            left = self.total - self.done
            again = f"mcld bench {self.suite.file}"
            raise Interrupted(f"stopped with {left} of {self.total} cells left; go on with: {again}", asked)
        if self.failed:
            lines = "".join(f"\n  {id}: {reason}" for id, reason in self.failed.items())
            raise RunError(
                f"{len(self.failed)} of {self.total} cells failed; the same command tries them again:{lines}"
            )
        self._print(f"all {self.total} cells are finished; the report: mcld bench {self.suite.file} --report")

    def _may_start(self) -> bool:
        teaching = any(entry.cell.command == "train" for entry in self.running)
        ready = time.monotonic() >= self.look_again
        return bool(self.waiting) and len(self.running) < self.workers and not teaching and ready

    def _next(self) -> Cell | None:
        """The next cell to start. One that another process is running is passed over, until it is done or free."""
        for _ in range(len(self.waiting)):
            cell = self.waiting.popleft()
            if whom := in_use(cell):
                if cell.id not in self.passed_over:
                    self.passed_over.add(cell.id)
                    self._say(f"{cell.id}  is being run by {whom}; passed over until that is done")
                if cell.command == "train":  # the others need it
                    self.waiting.appendleft(cell)
                    break
                self.waiting.append(cell)
            elif cell.id in self.passed_over and self._was_finished(cell):
                self.done += 1
                self._say(f"{cell.id}  was finished by another process: {_outcome(cell)}")
            else:
                return cell
        self.look_again = time.monotonic() + 1  # not at every turn
        return None

    def _was_finished(self, cell: Cell) -> bool:
        finished = cell.finished()
        if finished:
            keep(cell)
        return finished

    def _start(self, cell: Cell, snapshot: Path) -> None:
        log = cell.run.with_name(f"{cell.run.name}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        file = os.fdopen(open_descriptor(log, flags, follow=False), "wb")
        process = subprocess.Popen(
            self.command(cell, snapshot),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(self.threads), PARENT: str(os.getpid())},
            start_new_session=True,  # Ctrl-C reaches this process alone, which then tells them once
        )
        entry = _Running(cell, process, file, log, self.epochs[cell.id])
        entry.first_epochs = entry.epochs_done
        self.running.append(entry)

    def command(self, cell: Cell, suite: Path) -> list[str]:
        """The command line that runs one cell."""
        words = ["bench", str(suite), "--out", str(self.suite.out), "--cell", cell.id, "--threads", str(self.threads)]
        return [sys.executable, "-m", "mcld", *words, *plugin_words()]

    def _reap(self, asked: int | None) -> None:
        for entry in list(self.running):
            status = entry.process.poll()
            if status is None:
                continue
            entry.log.close()
            self.running.remove(entry)
            seconds = time.monotonic() - entry.started
            self.epochs_run += entry.epochs_done - entry.first_epochs
            self.busy_seconds += seconds
            cell = entry.cell
            if status == 0:
                self.done += 1
                self._say(f"{cell.id}  {_outcome(cell)}, {_duration(seconds)}")
            elif asked is None or status not in (128 + signal.SIGTERM, -signal.SIGTERM):
                reason = _last_line(entry.log_path, status)
                self.failed[cell.id] = f"{reason} (log: {entry.log_path})"
                self._say(f"{cell.id}  failed: {reason}", style="red")
                if cell.command == "train":
                    self.failed |= {other.id: "its teacher failed" for other in self.waiting}
                    self.waiting.clear()

    def _say(self, text: str, style: str | None = None) -> None:
        left = f", {remaining} left" if (remaining := self._remaining()) else ""
        self._print(f"[{self.done}/{self.total}{left}] {text}", style)

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(printable(text), style=style, markup=False, emoji=False)  # a path is shown as it is

    def _remaining(self) -> str:
        """The time that is left, from the epochs run so far."""
        epochs = self.epochs_run + sum(entry.epochs_done - entry.first_epochs for entry in self.running)
        busy = self.busy_seconds + sum(time.monotonic() - entry.started for entry in self.running)
        ahead = sum(self.epochs[cell.id] - _epochs_done(cell) for cell in self.waiting)
        ahead += sum(entry.epochs - entry.epochs_done for entry in self.running)
        return "" if not epochs or not ahead else _duration(ahead * busy / epochs / self.workers)

    def _picture(self) -> Group:
        """What the terminal shows while cells run."""
        table = Table.grid(padding=(0, 1))
        for entry in self.running:
            done = entry.epochs_done
            table.add_row(
                Text(f"  {entry.cell.id}"),
                ProgressBar(entry.epochs, done, width=24),
                f"epoch {min(done + 1, entry.epochs)}/{entry.epochs}" if done < entry.epochs else "measuring",
                _duration(time.monotonic() - entry.started),
            )
        left = f", about {remaining} left" if (remaining := self._remaining()) else ""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        head = f"{self.done} of {self.total} cells finished, {len(self.running)} running{failed}{left}"
        return Group(Text(head), table)

    def _tell(self, number: int) -> None:
        for entry in self.running:
            if entry.process.poll() is None:
                entry.process.send_signal(number)


class _Silent:
    """Where there is no terminal, nothing is drawn."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: Any) -> None: ...


def _epochs_done(cell: Cell) -> int:
    try:
        return max(0, read_file(cell.run / "metrics.csv", follow=False).count(b"\n") - 1)
    except OSError:
        return 0


def _outcome(cell: Cell) -> str:
    if cell.command == "train":
        run = RunDirectory(cell.run)
        return f"validation top-1 {run.read_json(run.summary)['last']['top1']:.2%}"
    results = cell.results()
    assert results is not None
    validation = results.summary["last"]["top1"]
    return f"top-1 {results.test['last']['top1']:.2%} on the test data, {validation:.2%} on the validation data"


def _last_line(log: Path, status: int) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return lines[-1].removeprefix("mcld: ") if lines else f"exit status {status}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
