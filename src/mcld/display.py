"""What a person sees while a run goes on: one line per epoch, and a live bar where there is a terminal."""

import datetime
import importlib.util
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mcld.files import append_text
from mcld.text import printable


def plain_console() -> Console:
    """A terminal that shows text as it is: no ``[word]`` of a path is taken for markup, no ``:word:`` for a picture."""
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


class Display:
    """Prints lines to the terminal and to the run's log, and draws the progress bar.

    Args:
        console: where to print.
        silent: print and log nothing (the ranks other than 0).
        brief: only log the lines; the terminal shows the bar alone.
    """

    def __init__(self, console: Console | None = None, *, silent: bool = False, brief: bool = False) -> None:
        self.console = console or plain_console()
        self.console.quiet = self.console.quiet or silent
        self.silent = silent
        self.brief = brief
        self._log: Path | None = None
        self._early: list[str] = []

    @property
    def log(self) -> Path | None:
        """The run's log: as soon as it is known it also gets the lines before, which say how the run began."""
        return self._log

    @log.setter
    def log(self, path: Path | None) -> None:
        self._log = path
        if path is not None and not self.silent:
            append_text(path, "".join(self._early))
            self._early = []

    def line(self, text: str, *, style: str | None = None) -> None:
        """Print one line, and add it with the time to the log once there is one; control characters are spelt out."""
        text = printable(text)
        if not self.brief:
            self.console.print(text, style=style, markup=False, emoji=False)
        now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        if self.log is None:
            self._early.append(f"{now}  {text}\n")
        elif not self.silent:
            append_text(self.log, f"{now}  {text}\n")

    def bar(self, total: int, done: int, label: str) -> "Bar":
        """A progress bar over the steps of a run; it draws nothing where the output is no terminal."""
        return Bar(self.console, total, done, label)


class Notes(Display):
    """Keeps the lines, to be shown later."""

    def __init__(self) -> None:
        super().__init__(silent=True)
        self.lines: list[str] = []

    def line(self, text: str, *, style: str | None = None) -> None:  # noqa: ARG002
        """Keep one line."""
        self.lines.append(text)


class Bar:
    """A live progress bar; see :meth:`Display.bar`."""

    def __init__(self, console: Console, total: int, done: int, label: str) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[speed]}"),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[terms]}"),
            console=console,
            transient=True,
            disable=not (console.is_terminal or _draws_in_notebooks(console)),
            refresh_per_second=4,
        )
        self.task: TaskID = self.progress.add_task(label, total=total, completed=done, speed="", terms="")
        self.restart_clock()

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def restart_clock(self) -> None:
        """Start measuring images/s anew (an epoch begins)."""
        self.started = time.perf_counter()
        self.images = 0

    @property
    def seconds(self) -> float:
        """Since the clock was restarted: everything between the steps counts, loading the data included."""
        return time.perf_counter() - self.started

    def step(self, images: int, steps: int = 1) -> None:
        """One step was done, or several, on this many images."""
        self.images += images
        self.progress.advance(self.task, steps)

    def describe(self, label: str, terms: dict[str, float]) -> None:
        """Show the loss terms and the speed."""
        self.progress.update(
            self.task,
            description=label,
            speed=f"{self.images / max(self.seconds, 1e-9):,.0f} images/s",
            terms="  ".join(f"{name} {value:.3f}" for name, value in terms.items()),
        )


def _draws_in_notebooks(console: Console) -> bool:
    """Whether this is a notebook with what rich needs to draw there; without, each epoch still has its line."""
    return console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None


def label_of(term: str, ce_weight: float) -> str:
    """How a loss term is called beside its value, which is weighted: of cross-entropy that is said."""
    return f"{ce_weight:g}·{term}" if term == "ce" and ce_weight != 1 else term


def epoch_line(row: dict[str, float], epochs: int, ce_weight: float = 1.0) -> str:
    """One line about an epoch; the terms sum to the loss, so each has its weight in it."""
    known = {
        "epoch",
        "lr",
        "loss",
        "train_top1",
        "val_loss",
        "val_top1",
        "val_top5",
        "agreement",
        "images_per_second",
        "seconds",
    }
    terms = "  ".join(f"{label_of(name, ce_weight)} {value:.3f}" for name, value in row.items() if name not in known)
    terms = f"  {terms}" if "  " in terms else ""
    agreement = f"  agreement {row['agreement']:6.2%}" if "agreement" in row else ""
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}.0f}/{epochs}  top-1 {row['val_top1']:6.2%}{agreement}  "
        f"loss {row['loss']:.3f}{terms}  lr {row['lr']:.4g}  {row['images_per_second']:,.0f} images/s"
    )
