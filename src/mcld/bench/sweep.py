"""The cells of a suite as a Hydra sweep, for the launchers that Hydra has for clusters."""

from collections.abc import Sequence

from rich.console import Console

from mcld.bench.cell import run_cell
from mcld.bench.runner import prepare
from mcld.bench.suite import Cell, Suite
from mcld.bench.suite_file import read_suite
from mcld.commands.sweep import is_hydras, launch
from mcld.errors import InputError, RunError


def sweep(suite: Suite, cells: Sequence[Cell], words: Sequence[str], *, threads: int | None, console: Console) -> None:
    """Run what is left of some cells, one job each; the teacher first, if the suite trains it.

    Every job reads the suite file and writes its run directory at the same paths as here: a cluster needs a file system
    that all its machines share.

    Args:
        suite: that the cells are of.
        cells: of the whole request, finished ones included.
        words: for Hydra: the launcher and its settings.
        threads: CPU threads of each job; None for PyTorch's choice there.
        console: where to print.

    Raises:
        InputError: for settings that cannot work, or words that are none of Hydra's.
        RunError: when cells failed; the others have been run.
    """
    for word in words:
        if not is_hydras(word):
            raise InputError(f"--hydra {word}: expected words of Hydra itself, such as hydra/launcher=ray")
    left = prepare(suite, cells)
    console.print(f"{suite.name}: {len(cells)} cells, {len(left)} runs left; in {suite.out}", markup=False)
    file, out = str(suite.file), str(suite.out)

    def job(id: str) -> None:
        """In the process that the launcher chose: one cell."""
        run_cell(read_suite(file, out).cell(id), threads=threads)

    teacher = [cell for cell in left if cell.command == "train"]
    for part in (teacher, [cell for cell in left if cell.command != "train"]):
        if not part:
            continue
        failures = launch(job, [cell.id for cell in part], words, str(suite.out / "sweep"))
        if failures:
            raise RunError(
                f"{len(failures)} of {len(part)} cells failed; the same command tries them again: "
                + "; ".join(f"{name}: {line}" for name, line in failures.items())
            )
