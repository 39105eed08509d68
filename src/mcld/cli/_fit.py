"""What ``mcld train`` and ``mcld distill`` share."""

import argparse
import dataclasses
import datetime
import os
from collections.abc import Sequence
from typing import Any

from mcld.cli.main import Parser
from mcld.errors import InputError, RunError
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
        fetches = ["data.download"] if getattr(settings.data, "download", False) else []  # not to look at a plan
        plan = build_parts(with_values(settings, dict.fromkeys(fetches, False))).plan
        kept = with_values(plan.settings, dict.fromkeys(fetches, True))
        print(dataclasses.replace(plan, settings=kept).to_yaml(), end="")
    else:
        dry_run(settings, force=given.force)


def _sweep(command: Any, given: argparse.Namespace) -> int:
    """All combinations, by the launcher that is asked for; a failed run is reported and does not stop the others."""
    from mcld.commands.run import start
    from mcld.commands.sweep import is_hydras, launch
    from mcld.configs.compose import compose
    from mcld.configs.values import with_values
    from mcld.configs.words import combinations, read, several

    # the last word of a key wins
    words = {word.key: word for word in read(command, [word for word in given.words if not is_hydras(word)])}
    folder, run = f"runs/sweep-{datetime.datetime.now():%Y%m%d-%H%M%S}", words.pop("run", None)
    if run is not None:
        if len(several(run)) > 1 or "${" in run.text:
            raise InputError(f"{run.said}: expected one folder, in which every run gets its own")
        folder = folder if run.text in ("", "null") else run.text.strip("'\"")
    jobs: dict[str, list[str]] = {}

    def settings_of(place: str) -> Any:
        return with_values(compose(command, jobs[place]), {"run": place})

    for job_words in combinations(words.values()):
        own = sorted(one for one, word in zip(job_words, words.values(), strict=True) if len(several(word)) > 1)
        place = f"{folder}/{','.join(own).replace('/', '_').replace(chr(39), '') or 'run'}"
        jobs[place] = job_words
        settings = settings_of(place)  # a mistake in the last shows before the first has run
        if settings.devices > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
            raise InputError("-m runs on one device after another run; for several devices start the runs one by one")
    if given.cfg or given.dry_run:
        for place in jobs:
            print(printable(f"# {place}"))
            _preview(settings_of(place), given)
        return 0
    force = given.force

    def job(place: str) -> None:
        print(printable(f"--- {place}"))
        start(settings_of(place), force=force)

    if failed := launch(job, list(jobs), [word for word in given.words if is_hydras(word)], folder):
        raise RunError(f"{len(failed)} runs of the sweep failed: {', '.join(failed)}")
    return 0


def _describe(command: str) -> str:
    """The settings with their defaults, straight from the classes (torch is not imported for that)."""
    from mcld.cli.methods import option_rows
    from mcld.configs import schema

    rows = option_rows(schema.Train() if command == "train" else schema.Distill(), heads=True)
    return "\n".join(f"  {word.removesuffix('=').removesuffix('=null')}: {meaning}" for word, meaning in rows)
