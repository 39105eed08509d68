"""What every logger is."""

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, dataclass_transform

from mcld.errors import InputError
from mcld.options import check_fields, declare_options

Row = Mapping[str, float]


class Logs(NamedTuple):
    """What a logger is told when it starts.

    Attributes:
        run: the run directory.
        folder: of this logger alone, in the run directory; it need not exist yet.
        settings: all settings of the run, by dotted key.
        history: a row of numbers for each epoch that is complete: ``epoch`` and, by name, what was measured.
    """

    run: Path
    folder: Path
    settings: Mapping[str, Any]
    history: Sequence[Row]


@dataclass_transform(eq_default=False, field_specifiers=(dataclasses.field,))
class Logger:
    """A place for the numbers of a run, under a name (:func:`mcld.register_logger`).

    Its options are the annotated fields of the class, as in a dataclass. It runs in one process of a run, the first.
    What it raises is said in one line and ends the logger, never the run: ``metrics.csv`` has everything anyway.
    """

    name: ClassVar[str] = ""
    """The registered name; without one, that of the class in lower case."""
    title: ClassVar[str] = ""
    """In one line; by default the docstring's first."""
    needs: ClassVar[str] = ""
    """The package that it imports, if it is none of those that mcld needs anyway."""
    extra: ClassVar[str] = ""
    """The extra of a package that brings it, such as ``mcld[wandb]``."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        declare_options(cls, Logger)

    def __init__(self) -> None:
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the options and that the package is there; what a subclass adds comes after this.

        Raises:
            InputError: for an option out of range, or without the package, saying how to get it.
        """
        if dataclasses.is_dataclass(self):
            check_fields(self)
        if self.needs and importlib.util.find_spec(self.needs) is None:
            raise InputError(
                f"logger={self.name} needs the package {self.needs}, which is not installed: "
                f"pip install '{self.extra or self.needs}'"
            )

    def start(self, logs: Logs) -> None:
        """Begin, or go on after an interruption: show the rows that there are, each once."""

    def log(self, row: Row) -> None:
        """Show the row of an epoch that has just been completed and saved."""
        raise NotImplementedError

    def finish(self, *, complete: bool) -> None:
        """Leave; ``complete`` says whether the run has come to its end."""
