"""Where the numbers of a run go besides its terminal: one file for each place; the file's name is the logger's."""

from mcld.loggers._base import Logger, Logs
from mcld.loggers._several import Loggers

__all__ = ["Logger", "Loggers", "Logs"]
