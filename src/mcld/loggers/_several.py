"""The loggers of one run, and what happens when one of them fails."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mcld.loggers._base import Logger, Logs, Row
from mcld.registry import LOGGERS


class Loggers:
    """Several loggers as one.

    Args:
        settings: the group ``logger`` of a run's settings: names, and the options of each.
        say: prints a line.

    Raises:
        InputError: for an option out of range or a package that is not installed.
    """

    def __init__(self, settings: Any, say: Callable[[str], None]) -> None:
        self.say = say
        self.loggers: list[Logger] = []
        for name in settings.name.split("+"):
            options = getattr(settings, name, None)
            self.loggers.append(LOGGERS.get(name)(**({} if options is None else vars(options))))

    def start(self, run: Path, settings: Mapping[str, Any], history: Sequence[Row]) -> None:
        """Begin or go on; see :meth:`Logger.start`."""
        for logger in list(self.loggers):
            folder = run / "tensorboard" if logger.name == "tensorboard" else run / "logs" / logger.name
            self._ask(logger, partial(logger.start, Logs(run, folder, settings, history)))

    def log(self, row: Row) -> None:
        """Show a row everywhere."""
        for logger in list(self.loggers):
            self._ask(logger, partial(logger.log, row))

    def finish(self, *, complete: bool) -> None:
        """Leave."""
        for logger in list(self.loggers):
            self._ask(logger, partial(logger.finish, complete=complete))
        self.loggers = []

    def _ask(self, logger: Logger, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever happens in another's code or on a network: the run is worth more
            self.loggers.remove(logger)
            reason = " ".join(str(error).split())[:300] or "no reason given"
            self.say(
                f"warning: the logger {logger.name} failed and is left out from now on ({type(error).__name__}: "
                f"{reason}); the run goes on, and metrics.csv has everything"
            )
