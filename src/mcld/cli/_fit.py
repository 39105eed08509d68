"""What ``mcld train`` and ``mcld distill`` share."""

import argparse
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
    parser = Parser(command, usage, EPILOG.format(settings=_describe(command)) if _wants_help(arguments) else "")
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings; see below")
    parser.add_argument("--dry-run", action="store_true", help="say what would happen and how long it would take")
    parser.add_argument("--force", action="store_true", help="replace the run directory if it exists")
    parser.add_argument("--cfg", choices=["job"], help="print the settings and do nothing")
    parser.add_argument("-m", "--multirun", action="store_true", help="one run for each combination of values")
    given = parser.parse_intermixed_args(list(arguments))
    if given.multirun:
        return _sweep(command, given)

    from mcld.configs.compose import compose

    settings = compose(command, given.words)
    if given.cfg or given.dry_run:
        _preview(settings, given)
        return 0

    from mcld.training.run import start
    from mcld.training.stop import Interrupted

    try:
        start(settings, force=given.force)
    except Interrupted as stop:
        print(stop)
        return 128 + stop.signal
    return 0


def _preview(settings: Any, given: argparse.Namespace) -> None:
    """What ``--cfg`` and ``--dry-run`` ask for."""
    from mcld.configs.compose import settings_to_yaml
    from mcld.training.dry_run import dry_run

    if given.cfg:
        print(settings_to_yaml(settings), end="")
    else:
        dry_run(settings, force=given.force)


def _sweep(command: Any, given: argparse.Namespace) -> int:
    """All combinations, by Hydra's own sweeper and launcher; a failed run is reported and does not stop the others."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.types import QuotedString
    from omegaconf import DictConfig

    from mcld.configs.compose import compose_parsed, parse, to_settings
    from mcld.configs.multirun import multirun
    from mcld.training.run import start
    from mcld.training.stop import Interrupted

    extra = [word for word in given.words if word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    overrides = parse(command, [word for word in given.words if word not in extra], sweep=True)
    folder = f"runs/sweep-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    for override in overrides:
        if override.key_or_group == "run":
            if override.is_sweep_override() or "${" in (override.input_line or ""):
                raise InputError(f"{override.input_line}: expected one folder, in which every run gets its own")
            value = override.value()
            if value:
                folder = value.text if isinstance(value, QuotedString) else str(value)
    overrides = [override for override in overrides if override.key_or_group != "run"]
    swept = [override.key_or_group for override in overrides if override.is_sweep_override()]
    force = given.force

    def place(words: Sequence[str]) -> str:
        plain = [word.lstrip("+") for word in words]
        own = sorted(word for word in plain if word.partition("=")[0] in swept)
        return f"{folder}/{','.join(own).replace('/', '_').replace(chr(39), '') or 'run'}"

    for combination in BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]:
        settings = compose_parsed(command, combination)  # a mistake in the last shows before the first has run
        if settings.devices > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
            raise InputError("-m runs on one device after another run; for several devices start the runs one by one")
        if given.cfg or given.dry_run:
            settings.run = place(combination)
            print(printable(f"# {settings.run}"))
            _preview(settings, given)
    if given.cfg or given.dry_run:
        return 0

    def job(config: DictConfig) -> str:
        """The name of the run when it failed: what a launcher brings back, from wherever it ran."""
        settings = to_settings(config)
        settings.run = place(HydraConfig.get().overrides.task)
        print(printable(f"--- {settings.run}"))
        try:
            start(settings, force=force)
        except Interrupted as stop:
            print(stop)
            raise SystemExit(128 + stop.signal) from stop
        except Exception as error:  # the other combinations may work
            print(printable(f"mcld: {settings.run}: {explain(error)[0]}"), file=sys.stderr)
            return settings.run
        return ""

    failures = multirun(command, job, [*(override.input_line or "" for override in overrides), *extra], folder)
    if failures:
        raise RunError(f"{len(failures)} runs of the sweep failed: {', '.join(failures)}")
    return 0


def _wants_help(arguments: Sequence[str]) -> bool:
    return "-h" in arguments or "--help" in arguments


def _describe(command: str) -> str:
    """The settings with their defaults, straight from the classes (torch is not imported for that)."""
    import dataclasses
    import inspect
    import re

    from mcld.configs import schema

    lines = []

    def describe(cls: Any, prefix: str) -> None:
        notes: dict[str, str] = {}
        for base in reversed(cls.__mro__[:-1]):
            text = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
            for key, note in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE):
                notes[key] = re.sub(r"\s*\n\s*", " ", note).replace("``", "")
        for field in dataclasses.fields(cls):
            default = field.default if field.default is not dataclasses.MISSING else None
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            if dataclasses.is_dataclass(default):
                summary = inspect.cleandoc(type(default).__doc__ or "").partition("\n")[0]
                lines.append(f"  {prefix}{field.name}: {summary.replace('``', '')}")
                describe(type(default), f"{prefix}{field.name}.")
            elif field.name in ("data", "method"):
                lines.append(f"  {field.name}=NAME: see mcld {field.name}{'s' if field.name == 'method' else ''}")
            else:
                shown = "" if default is None or default == "???" else f"={default}"
                lines.append(f"  {prefix}{field.name}{shown}: {notes.get(field.name, '')}")

    describe(schema.Train if command == "train" else schema.Distill, "")
    return "\n".join(lines)
