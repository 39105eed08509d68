"""What ``mcld train`` and ``mcld distill`` share."""

import argparse
import dataclasses
import datetime
import os
import sys
from collections.abc import Sequence
from typing import Any

from mcld.cli.main import Parser
from mcld.errors import InputError, RunError, explain
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
    if given.multirun:
        return _sweep(command, given)

    from mcld.configs.compose import compose

    settings = compose(command, given.words)
    if given.cfg or given.dry_run:
        _preview(settings, given)
        return 0

    from mcld.commands.run import start
    from mcld.engine.stop import Interrupted

    try:
        start(settings, force=given.force)
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
        download = getattr(settings.data, "download", False)
        plan = build_parts(with_values(settings, {"data.download": False})).plan  # to look at it fetches nothing
        kept = with_values(plan.settings, {"data.download": download})
        print(dataclasses.replace(plan, settings=kept).to_yaml(), end="")
    else:
        dry_run(settings, force=given.force)


def _sweep(command: Any, given: argparse.Namespace) -> int:
    """All combinations, by the launcher that is asked for; a failed run is reported and does not stop the others."""
    from mcld.commands.run import start
    from mcld.configs.compose import compose
    from mcld.configs.sweep import is_hydras, launch
    from mcld.configs.values import with_values
    from mcld.configs.words import combinations, read, several
    from mcld.engine.stop import Interrupted

    words = read(command, [word for word in given.words if not is_hydras(word)])
    folder = f"runs/sweep-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    for word in [word for word in words if word.key == "run"]:
        if len(several(word)) > 1 or "${" in word.text:
            raise InputError(f"{word.said}: expected one folder, in which every run gets its own")
        folder = folder if word.text in ("", "null") else word.text.strip("'\"")
    words = list({word.key: word for word in words if word.key != "run"}.values())  # the last of a key wins
    swept = [word.key for word in words if len(several(word)) > 1]
    force = given.force
    jobs: dict[str, list[str]] = {}

    def placed(place: str) -> Any:
        return with_values(compose(command, jobs[place]), {"run": place})

    for job_words in combinations(words):
        own = sorted(word for word in job_words if word.partition("=")[0] in swept)
        place = f"{folder}/{','.join(own).replace('/', '_').replace(chr(39), '') or 'run'}"
        jobs[place] = job_words
        settings = compose(command, job_words)  # a mistake in the last shows before the first has run
        if settings.devices > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
            raise InputError("-m runs on one device after another run; for several devices start the runs one by one")
    if given.cfg or given.dry_run:
        for place in jobs:
            print(printable(f"# {place}"))
            _preview(placed(place), given)
        return 0

    def job(place: str) -> str:
        """The name of the run when it failed: what a launcher brings back, from wherever it ran."""
        print(printable(f"--- {place}"))
        try:
            start(placed(place), force=force)
        except Interrupted as stop:
            print(stop)
            raise SystemExit(128 + stop.signal) from stop
        except Exception as error:  # the other combinations may work
            print(printable(f"mcld: {place}: {explain(error)[0]}"), file=sys.stderr)
            return place
        return ""

    failures = launch(job, list(jobs), [word for word in given.words if is_hydras(word)], folder)
    if failures:
        raise RunError(f"{len(failures)} runs of the sweep failed: {', '.join(failures)}")
    return 0


def _describe(command: str) -> str:
    """The settings with their defaults, straight from the classes (torch is not imported for that)."""
    from mcld.cli.methods import option_rows
    from mcld.configs import schema

    rows = option_rows(schema.Train() if command == "train" else schema.Distill(), heads=True)
    return "\n".join(f"  {word.removesuffix('=').removesuffix('=null')}: {meaning}" for word, meaning in rows)
