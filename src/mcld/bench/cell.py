"""One cell of a suite, from nothing, from where it was, or already done: to its results."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mcld.assembly.plan import with_absolute_paths
from mcld.bench.measure import measure
from mcld.bench.suite import Cell, difference
from mcld.commands.run import resume, start
from mcld.configs.compose import settings_from_yaml
from mcld.configs.decisive import flatten
from mcld.configs.schema import Distill
from mcld.configs.values import with_values
from mcld.data import load_data
from mcld.display import Display
from mcld.errors import InputError
from mcld.files import atomic_write_bytes, atomic_write_text, holder, lock_file, read_file
from mcld.runs import RunDirectory
from mcld.runs.results import RESULTS, results_text


def run_cell(cell: Cell, *, threads: int | None = None, display: Display | None = None) -> None:
    """Bring a cell to its end; nothing is done twice.

    Args:
        cell: which.
        threads: CPU threads; None for PyTorch's choice.
        display: where to print.

    Raises:
        InputError: for settings that cannot work, or a run directory of other settings, or one that is in use other
            than as a cell.
        RunError: when the run cannot go on.
        Interrupted: when it was asked to stop; everything is saved.
    """
    settings = with_values(cell.settings(), {"threads": threads})
    display = display or Display()
    with _claimed(cell, display):
        if cell.finished():
            return
        if RunDirectory.is_run(cell.run):
            _check_same(cell)
            if not (cell.run / "summary.json").is_file():
                resume(str(cell.run), threads=threads, display=display)
        else:
            start(settings, force=True, display=display)  # it replaces no run, but a start that was cut short
        if cell.command == "distill":
            _measure(cell, display)


def _measure(cell: Cell, display: Display) -> None:
    run = RunDirectory.open(cell.run)
    settings = with_values(settings_from_yaml(run.config), {"run": str(cell.run)})
    assert isinstance(settings, Distill)
    test = cell.test_data()
    if getattr(test, "image_size", 0) is None:  # as it was trained
        test = dataclasses.replace(test, image_size=settings.data.image_size)
    data = load_data(**{field.name: getattr(test, field.name) for field in dataclasses.fields(test)})
    environment = run.read_json(run.environment)
    seen = ["training data", *(["validation data"] if cell.test else [])]
    if data.val.fingerprint() in [environment["inputs"][name] for name in seen]:
        raise InputError(f"{cell.id}: the test images are those that it was trained or chosen on; expected others")
    found = measure(settings, data.info, data.val, cell.run.parents[2] / "teacher-logits")
    names = {"id": cell.id, "pair": cell.pair, "method": cell.method, "seed": cell.seed}
    text = results_text(names, flatten(cell.settings()), environment, run.read_json(run.summary), found)
    atomic_write_text(run.path / RESULTS, text)
    keep(cell)
    last, best = found["last"], found["best"]
    display.line(
        f"on {found['images']:,} test images: top-1 last {last['top1']:.2%}, best {best['top1']:.2%} (chosen on the "
        f"validation data), agreement with the teacher {last['agreement']:.2%}"
    )


def keep(cell: Cell) -> None:
    """Copy the results of a finished cell to where the suite keeps them."""
    file = cell.run / RESULTS
    if cell.kept is not None and file.is_file() and not cell.kept.is_file():
        cell.kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(cell.kept, read_file(file, follow=False))


def _check_same(cell: Cell) -> None:
    settings = cell.settings(), settings_from_yaml(cell.run / "config.yaml")
    now, then = (flatten(with_absolute_paths(given)) for given in settings)
    if other := difference(cell, now, then, resolved=True):
        raise InputError(f"{cell.run} is a run of other settings: {other}; rename the cell or choose another out")


@contextlib.contextmanager
def _claimed(cell: Cell, display: Display) -> Iterator[None]:
    """Hold the cell's lock, which lies beside its run directory; another process that has it is waited for."""
    cell.run.parent.mkdir(parents=True, exist_ok=True)

    def waiting(whom: str) -> None:
        display.line(f"{cell.id}: waiting for {whom}, which is running it")

    with lock_file(_lock_of(cell), patience=float("inf"), waiting=waiting):
        yield


def in_use(cell: Cell) -> str | None:
    """Who is running a cell at this moment, in words; None when nobody is."""
    if _lock_of(cell).exists():
        try:
            with lock_file(_lock_of(cell)):
                pass
        except BlockingIOError:
            return holder(_lock_of(cell))
    return None


def _lock_of(cell: Cell) -> Path:
    return cell.run.parent / f".{cell.run.name}.lock"
