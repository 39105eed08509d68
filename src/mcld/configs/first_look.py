"""A first look at the words of a command line: a misspelt setting is told before anything big is imported."""

import re
from collections.abc import Sequence

from mcld.configs import schema
from mcld.configs.values import kind_of, leaves
from mcld.errors import InputError

OPEN = ("data", "method", "logger", "hydra")
"""Groups whose settings are those of what they name."""


def check_keys(command: str, words: Sequence[str]) -> None:
    """Check the keys that do not depend on the data set, the method or the loggers.

    Args:
        command: ``train`` or ``distill``.
        words: of its command line.

    Raises:
        InputError: naming the first that is none, and the nearest that is one.
    """
    settings = schema.Train() if command == "train" else schema.Distill()
    known = {key: kind for key, kind, _ in leaves(settings)}
    for word in words:
        match = re.match(r"\+{0,2}([\w.]+)=", word)
        if match is None or match[1].partition(".")[0] in OPEN:
            continue
        key = match[1]
        try:
            kind_of(key if f"{key}.name" not in known else f"{key}.name", known)
        except InputError as error:
            if any(other.startswith(f"{key}.") for other in known):  # a group, whose own way of reading says more
                continue
            raise InputError(f"{word}: {error}") from None
