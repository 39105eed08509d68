"""What ``mcld train`` and ``mcld distill`` share."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from mcld.cli.main import Parser
from mcld.errors import RunError
from mcld.text import printable

EPILOG = """\
settings are words of the form key=value, such as schedule.epochs=20:
{settings}

-m runs once for every combination of values given with commas: seed=0,1,2 schedule.lr=0.05,0.1
more options of Hydra, such as hydra/launcher=ray, can follow -m.
"""


def fit(command: Any, arguments: Sequence[str], usage: str) -> int:
    """Parse the words of the command line and do as they say."""
    wants_help = "-h" in arguments or "--help" in arguments
    parser = Parser(command, usage, EPILOG.format(settings=_describe(command)) if wants_help else "")
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings; see below")
    parser.add_argument("--dry-run", action="store_true", help="say what would happen and how long it would take")
    parser.add_argument("--force", action="store_true", help="replace the run directory if it exists")
    parser.add_argument("--cfg", choices=["job"], help="print all settings and what follows from them, and do nothing")
    parser.add_argument("-m", "--multirun", action="store_true", help="one run for each combination of values")
    given = parser.parse_intermixed_args(list(arguments))
    jobs: dict[str, list[str]] = {"": given.words}

    from mcld.configs.first_look import check_keys

    check_keys(command, given.words)
    from mcld.configs.compose import compose

    if given.multirun:
        from mcld.commands.sweep import launch, spread

        folder, launcher, jobs = spread(command, given.words)
    if given.cfg or given.dry_run:
        for place, words in jobs.items():
            if place:
                print(printable(f"# {place}"))
            _preview(compose(command, words), given)
        return 0

    from mcld.commands.run import start
    from mcld.engine.stop import Interrupted

    force = given.force

    def job(place: str) -> None:
        if place:
            print(printable(f"--- {place}"))
        start(compose(command, jobs[place]), force=force)

    if given.multirun:
        if failed := launch(job, list(jobs), launcher, folder):
            raise RunError(f"{len(failed)} runs of the sweep failed: {', '.join(failed)}")
        return 0
    try:
        job("")
    except Interrupted as stop:
        print(stop)
        return 128 + stop.signal
    return 0


def _preview(settings: Any, given: argparse.Namespace) -> None:
    """What ``--cfg`` and ``--dry-run`` ask for."""
    from mcld.assembly.parts import build_parts
    from mcld.commands.dry_run import dry_run
    from mcld.configs.values import with_values

    if given.cfg:
        fetches = ["data.download"] if getattr(settings.data, "download", False) else []  # not to look at a plan
        plan = build_parts(with_values(settings, dict.fromkeys(fetches, False))).plan
        kept = with_values(plan.settings, dict.fromkeys(fetches, True))
        print(dataclasses.replace(plan, settings=kept).to_yaml(), end="")
    else:
        dry_run(settings, force=given.force)


def _describe(command: str) -> str:
    """The settings with their defaults, straight from the classes (torch is not imported for that)."""
    from mcld.cli.methods import option_rows
    from mcld.configs import schema

    rows = option_rows(schema.Train() if command == "train" else schema.Distill(), heads=True)
    return "\n".join(f"  {word.removesuffix('=').removesuffix('=null')}: {meaning}" for word, meaning in rows)
