"""The file that every run has."""

from mcld.loggers._base import Logger, Row
from mcld.registry import register_logger


@register_logger("csv")
class CSV(Logger):
    """The ``metrics.csv`` that every run directory has, and nothing more.

    The run directory writes it anew from the state of the run after each epoch, whatever loggers there are.
    """

    def log(self, row: Row) -> None:
        """It is written already."""
