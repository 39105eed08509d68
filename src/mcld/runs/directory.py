"""The run directory: everything that one training leaves behind."""

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcld.errors import InputError
from mcld.files import atomic_write_text, read_file
from mcld.runs.owned import Owned, lock
from mcld.text import csv_text

MARKS = frozenset({"config.yaml", "environment.json", "model.json"})
RUN = Owned(
    what="run",
    names=MARKS
    | {
        "metrics.csv",
        "summary.json",
        "results.json",
        "last.safetensors",
        "best.safetensors",
        "log.txt",
        "answers.npz",
        "report.html",
        "split.csv",
        "figures",
        "checkpoints",
        "tensorboard",
        "logs",
        "export",
        "export-best",
    },
    marks=MARKS,
    begun=MARKS - {"config.yaml"},  # which is written last
)


class RunDirectory:
    """The files of one run.

    ========================  ======================================================================================
    ``config.yaml``           the resolved settings
    ``environment.json``      versions, hardware, git commit, command line
    ``metrics.csv``           one row per epoch
    ``summary.json``          last and best accuracy, every term's curve, costs
    ``model.json``            what rebuilds the network: architecture, classes, normalisation
    ``split.csv``             which images it trained and validated on, where mcld held a part out itself
    ``last.safetensors``      its weights after the last epoch
    ``best.safetensors``      its weights after the epoch with the best validation top-1
    ``log.txt``               what the terminal said
    ``report.html``           what came out, to look at; its figures as files are in ``figures/``
    ``answers.npz``           what student and teacher answer on the validation images, for the report
    ``checkpoints/``          the state that ``mcld resume`` continues from
    ``tensorboard/``          the curves for TensorBoard
    ``logs/``                 what other loggers keep here, each in a folder of its name
    ``export/``               what ``mcld export`` wrote; ``export-best/`` for the best weights
    ``results.json``          what ``mcld bench`` measured on its test data
    ========================  ======================================================================================
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.metrics = self.path / "metrics.csv"
        self.summary = self.path / "summary.json"
        self.model = self.path / "model.json"
        self.log = self.path / "log.txt"
        self.answers = self.path / "answers.npz"
        self.report = self.path / "report.html"
        self.split = self.path / "split.csv"
        self.figures = self.path / "figures"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"

    def weights(self, which: str) -> Path:
        """The file with the ``last`` or the ``best`` weights.

        Raises:
            InputError: for another word.
        """
        if which not in ("last", "best"):
            raise InputError(f"weights={which!r}; expected 'last' or 'best'")
        return self.path / f"{which}.safetensors"

    @staticmethod
    def is_run(path: str | os.PathLike[str]) -> bool:
        """Whether path is a run directory."""
        return RUN.is_there(path)

    @staticmethod
    def check_free(path: str | os.PathLike[str], *, force: bool) -> None:
        """Check that a new run can be made at path, writing nothing.

        Raises:
            InputError: when something is there already that ``force`` does not cover, or no directory can be made.
        """
        RUN.check_free(path, force=force, instead=_instead(path))

    @classmethod
    @contextlib.contextmanager
    def create(cls, path: str | os.PathLike[str], *, force: bool = False) -> "Iterator[RunDirectory]":
        """Make a new run directory, whose marks are written in this context; an existing run goes only with ``force``.

        They are written to a folder beside it, which takes its place at the end of the context; until then what was
        there before stays as it is.

        Raises:
            InputError: as :meth:`check_free`, or when the run is in use by another process.
        """
        with RUN.replacing(path, force=force, instead=_instead(path)) as new:
            yield cls(new)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunDirectory":
        """Open an existing run directory.

        Raises:
            InputError: when path is no run directory, or holds links or other things that are no files.
        """
        if not Path(path).is_dir():
            raise InputError(f"{path}: no such run directory")
        RUN.recover(path)
        RUN.check_files(path)
        if missing := [name for name in sorted(MARKS) if not (Path(path) / name).is_file()]:
            raise InputError(f"{path} is not a run directory (it has no {missing[0]})")
        return cls(path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing to this run; the lock ends with the process, however that ends.

        What a process that was killed had half written is removed.

        Raises:
            InputError: when another process has it.
        """
        RUN.check_files(self.path)
        with lock(self.path, f"run {self.path}"):
            RUN.clear(self.path)
            for left in self.checkpoints.glob(".*.ckpt.*.tmp"):
                left.unlink(missing_ok=True)
            yield

    @property
    def plugins(self) -> list[Any]:
        """What the run remembers of the plugins and packages that it was made with; of an earlier version nothing."""
        with contextlib.suppress(InputError):
            found = self.read_json(self.environment).get("plugins")
            return found if isinstance(found, list) else []
        return []

    def write_json(self, file: Path, content: Mapping[str, Any]) -> None:
        """Write one of the JSON files."""
        atomic_write_text(file, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def read_json(self, file: Path) -> dict[str, Any]:
        """Read one of the JSON files.

        Raises:
            InputError: when it is missing or damaged.
        """
        try:
            content = json.loads(read_file(file, follow=False))
        except FileNotFoundError as error:
            hint = f"; the run may not have finished: mcld resume {self.path}" if file == self.summary else ""
            raise InputError(f"{file}: no such file{hint}") from error
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{file} cannot be read: {reason}") from error
        if not isinstance(content, dict):
            raise InputError(f"{file} holds no JSON object")
        return content

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the whole history: rows are never appended, so an interrupted run can neither lose nor double one."""
        columns = list(dict.fromkeys(key for row in history for key in row))
        atomic_write_text(self.metrics, csv_text(columns, history))

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of ``metrics.csv``, as numbers.

        Raises:
            InputError: when the file is missing or damaged.
        """
        try:
            text = read_file(self.metrics, follow=False).decode("utf-8")
            reader = csv.DictReader(io.StringIO(text, newline=""))
            return [{key: float(value) for key, value in row.items() if value} for row in reader]
        except (OSError, ValueError, AttributeError, TypeError, csv.Error) as error:
            raise InputError(f"{self.metrics} cannot be read: {error}") from error


def _instead(path: str | os.PathLike[str]) -> str:
    return f"go on with it: mcld resume {path}, " if RunDirectory.is_run(path) else ""
