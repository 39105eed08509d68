"""Run directories: what is in them, and reading them back."""

from mcld.runs.directory import RunDirectory
from mcld.runs.owned import Owned

__all__ = ["Owned", "RunDirectory"]
