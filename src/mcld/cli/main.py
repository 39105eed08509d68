"""Finds the command, runs it, and turns errors into one clear line."""

import argparse
import contextlib
import importlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

import mcld
from mcld.errors import InputError, explain, unknown_name
from mcld.plugins import load_plugin, take_plugins
from mcld.text import brief, printable

COMMANDS = {
    "demo": "See in three minutes what distillation does: a teacher, and the same student with and without it.",
    "train": "Train a network on labelled images: a teacher to distil from, or a student alone.",
    "distill": "Train a small network that learns from a big one.",
    "teacher-logits": "Compute a teacher's logits ahead of the runs that learn from them; check those on disk.",
    "resume": "Go on with a run that was interrupted, as if it never had been.",
    "evaluate": "Measure the accuracy of a trained network on a data set.",
    "predict": "Say what is in images: the classes and probabilities that a trained network gives them.",
    "report": "Show what came out of a run, or compare several: one page with curves, classes, mistakes.",
    "bench": "Compare methods: a grid of runs from one suite file, on test data of its own, with a report.",
    "published": "List the published results of the field that one command runs again here.",
    "transfer": "Measure what a trained network has learnt by training a linear classifier on its features.",
    "export": "Write a trained network for other software (ONNX, 8-bit integers, OpenVINO, torch.export, weights).",
    "clean": "Delete the checkpoints of finished runs, which take most of their room.",
    "methods": "List the distillation methods, or one method's options.",
    "models": "List the networks that can be teachers and students.",
    "data": "List the data sets, or one data set's options.",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, command: str, usage: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"mcld {command}",
            usage=f"mcld {command} {usage}",
            description=COMMANDS[command],
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        # Taken from the words before any command reads them; here for the help.
        self.add_argument("--plugin", metavar="FILE", help="first import this file of Python code; may be repeated")

    def format_help(self) -> str:
        """What it does for the user comes first."""
        text = super().format_help()
        usage, _, rest = text.partition("\n\n")
        description, _, options = rest.partition("\n\n")
        return f"{description}\n\n{usage}\n\n{options}"

    def error(self, message: str) -> NoReturn:
        """One line, status 2."""
        raise InputError(f"{message}; see: {self.prog} --help")


def split_words(words: Sequence[str], keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """The run directories and models among the words, and the settings; a run's name may have an equals sign.

    Raises:
        InputError: for a setting that is neither ``data``, nor ``data.KEY``, nor one of the keys or below it.
    """
    from mcld.runs import RunDirectory

    named = [word for word in words if RunDirectory.is_run(word) or not re.match(r"[\w.+~]+=", word)]
    settings = [word for word in words if word not in named]
    for word in settings:
        key = word.partition("=")[0]
        if not any(key == known or key.startswith(f"{known}.") for known in ("data", *keys)):
            raise InputError(f"{word}: there is no such setting here; expected data=, data.KEY= or {'=, '.join(keys)}=")
    return named, settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the process exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack a letter of a message or of a name
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _dispatch(words)
        # A run that was asked to stop has stopped in order on all ranks: of one that ends otherwise than well the
        # launcher would think that it failed, and kill the first before it has said so.
        launched = os.environ.get("LOCAL_RANK", "0") != "0" and "TORCHELASTIC_RUN_ID" not in os.environ
        return 0 if launched and status > 128 else status
    except KeyboardInterrupt:
        return _fail("stopped", 130)
    except BrokenPipeError:  # the reader of a pipe left; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        with _undisturbed():
            message, status, known = explain(error)
            first = _failed_first(status, known)
            if first is None and not known:
                raise
            if first is None:
                _fail(message, status)
            status = status if first is None else first
            if "torch" in sys.modules:
                from mcld.distributed import leave

                leave(status)
            return status


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Without torch's signal handler, which raises wherever the program is when a loader's worker has died."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _dispatch(words: list[str]) -> int:
    files, words = take_plugins(words)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        print(f"mcld {mcld.__version__}")
        return 0
    command, *rest = words
    if command not in COMMANDS:
        raise unknown_name("command", command, COMMANDS)
    for file in files:
        load_plugin(file)
    module = importlib.import_module(f"mcld.cli.{command.replace('-', '_')}")
    status: int = module.main(rest)
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "mcld trains a small image classifier to be nearly as good as a big one.",
            "",
            "usage: mcld COMMAND [...]        mcld COMMAND --help        mcld --version",
            "",
            *lines,
            "",
            "All of them take --plugin FILE: a file of Python code with methods, models or data of your own.",
            "Begin with: mcld demo",
        ]
    )


def _failed_first(status: int, known: bool) -> int | None:
    """The exit status of another process of the same run, where that one tells why it failed; else None."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("LOCAL_RANK") != "0" and known:
        from torch import distributed

        if not distributed.is_initialized():  # torchrun started them all, and all make the same mistakes so far
            return status
    if "torch" not in sys.modules:
        return None

    from mcld.distributed import failed_first

    return failed_first(status)


def _fail(message: str, status: int) -> int:
    print(f"mcld: {brief(printable(message))}", file=sys.stderr)
    return status
