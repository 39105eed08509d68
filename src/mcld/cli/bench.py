"""``mcld bench``."""

import os
from collections.abc import Sequence
from typing import Any

from mcld.cli.main import Parser
from mcld.errors import InputError
from mcld.text import printable

EPILOG = """\
SUITE is a YAML file: common settings, a teacher, pairs, methods, seeds and test data (see docs/bench.md). Each cell
of the grid is an ordinary run directory. A bench that was stopped or killed goes on where it was with the same command;
finished cells are never run again.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("bench", "SUITE [--workers N] [--report [DIR]] [--only CELL ...] [--dry-run]", EPILOG)
    parser.add_argument("suite", metavar="SUITE", help="the suite file")
    parser.add_argument("--out", metavar="DIR", help="where the run directories are (default: what the suite says)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="cells at a time (default: 1)")
    parser.add_argument("--threads", type=int, metavar="T", help="CPU threads of each (default: cores / N)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="CELL", help="only these methods, pairs, or cells such as kd/seed0"
    )
    parser.add_argument(
        "--report", nargs="?", const="", metavar="DIR", help="write the report to DIR (default: OUT/reports/NAME)"
    )
    parser.add_argument("--cell", metavar="ID", help="run this one cell in this process, for job arrays of a cluster")
    parser.add_argument(
        "--hydra", nargs="+", metavar="WORD", help="run the cells as a Hydra sweep, such as --hydra hydra/launcher=ray"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the cells and how far they are")
    given = parser.parse_args(list(arguments))
    if given.cell is not None:
        from mcld.bench.orphan import stop_with_parent

        stop_with_parent()  # before all that takes time
    cores = os.cpu_count() or 1
    for name, value in (("--workers", given.workers), ("--threads", given.threads)):
        if value is not None and value < 1:
            raise InputError(f"{name} {value}; expected at least 1")
    threads = given.threads or max(1, cores // given.workers)

    from mcld.bench.suite import select
    from mcld.bench.suite_file import read_suite
    from mcld.display import plain_console

    suite = read_suite(given.suite, given.out)
    console = plain_console()
    if given.report is not None:
        from pathlib import Path

        from mcld.bench.report import write_report

        for line in write_report(suite, Path(given.report or suite.out / "reports" / suite.name)):
            console.print(printable(line))
        return 0
    if given.cell is not None:
        return _run_one(suite, given.cell, threads)
    cells = select(suite.cells(), given.only)

    from mcld.bench.runner import Bench, prepare
    from mcld.engine.stop import Interrupted

    if given.dry_run:
        left = {cell.id for cell in prepare(suite, cells)}
        teacher = suite.teacher_cell
        for cell in [*([teacher] if teacher else []), *cells]:
            begun = (cell.run / "config.yaml").is_file()
            state = ("begun" if begun else "to do") if cell.id in left else "finished"
            console.print(printable(f"{state:<9} {cell.id}  {' '.join(cell.words)}"))
        unfinished = sum(cell.id in left for cell in cells)
        console.print(printable(f"{len(cells)} cells, {unfinished} not finished; in {suite.out}"))
        return 0
    if given.hydra is not None:
        if given.workers != 1:
            raise InputError(f"--workers {given.workers} with --hydra: the launcher decides how many run at a time")
        from mcld.bench.sweep import sweep

        sweep(suite, cells, given.hydra, threads=given.threads, console=console)
        return 0
    if given.workers * threads > cores:
        console.print(
            f"warning: {given.workers} workers of {threads} threads on {cores} cores; that can be many times slower",
            style="yellow",
        )
    try:
        Bench(suite, cells, workers=given.workers, threads=threads, console=console).run()
    except Interrupted as stop:
        console.print(printable(str(stop)))
        return 128 + stop.signal
    return 0


def _run_one(suite: Any, id: str, threads: int) -> int:
    from mcld.bench.cell import run_cell
    from mcld.engine.stop import Interrupted

    cell = suite.cell(id)
    try:
        run_cell(cell, threads=threads)
    except Interrupted as stop:
        print(stop)
        return 128 + stop.signal
    return 0
