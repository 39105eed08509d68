"""The one exception that means: the input is wrong, and here is what would be right."""

import difflib
import errno
import re
from collections.abc import Iterable

from mcld.text import printable

# How torch says that a process of the same run is gone, in an error's type and in its text.
_DISTRIBUTED = {"DistBackendError", "DistNetworkError", "DistStoreError"}
_LOST = re.compile(r"gloo/|Connection (?:closed|reset) by peer|Socket closed|ncclRemoteError|recvValue failed")


class InputError(ValueError):
    """Bad input from a person.

    The message is one line that repeats what was given and says what would be right. The command line prints it and
    exits with status 2; library users can catch it as a ``ValueError``. Names that it repeats cannot break the line or
    steer a terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RunError(RuntimeError):
    """A run that cannot go on, such as one whose loss became NaN.

    The message is one line that says where, and what to do. The command line prints it and exits with status 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def explain(error: Exception) -> tuple[str, int, bool]:
    """An error in one line, the exit status, and whether it is one that may happen; the others are mistakes of ours."""
    text = str(error)
    if isinstance(error, InputError):
        return text, 2, True
    if isinstance(error, RunError):
        return text, 1, True
    # The first is torch's, known by name so that help needs no torch; on a CPU it raises a plain RuntimeError.
    memory = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    if memory or "DefaultCPUAllocator" in text or "Storage size calculation overflowed" in text:
        return (
            "the device is out of memory; try a smaller data.batch_size, a smaller network or precision=bf16",
            1,
            True,
        )
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:  # it may be raised anywhere in the loop
        reason = text.splitlines()[0].strip().rstrip(".")
        return (
            f"a process that reads images died ({reason}), perhaps of too little memory; "
            "try fewer data.workers (0 reads without them); what was saved goes on with mcld resume",
            1,
            True,
        )
    # A gloo, NCCL or store error in a run of several processes: the text is a page of frames of C++.
    if type(error).__name__ in _DISTRIBUTED or (isinstance(error, RuntimeError) and _LOST.search(text)):
        return "another process of this run has ended; go on from what was saved last: mcld resume RUN", 1, True
    if getattr(error, "errno", None) == errno.EMFILE or "Too many open files" in text:
        return "too many open files; raise the limit (ulimit -n 1024), or read without workers: data.workers=0", 1, True
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else text, 1, True
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no reason given'}", 1, False


def did_you_mean(given: object, known: Iterable[str], *, most: int = 1, cutoff: float = 0.5) -> str:
    """``"did you mean 'a' or 'b'? "``: the known names that are nearest, upper and lower case alike; "" without one.

    Args:
        given: what is no name.
        known: the names.
        most: of the nearest.
        cutoff: the least likeness, from 0 to 1.
    """
    by_lower: dict[str, str] = {}
    for name in known:
        by_lower.setdefault(name.lower(), name)
    near = [by_lower[name] for name in difflib.get_close_matches(str(given).lower(), by_lower, n=most, cutoff=cutoff)]
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


def unknown_name(kind: str, given: object, known: Iterable[str], *, more: str = "", most: int = 1) -> InputError:
    """The error for a name that does not exist, with the nearest one and, in place of all the others, ``more``.

    Args:
        kind: what it should be the name of.
        given: what was given.
        known: the right names.
        more: where to find them, when they are too many to be listed.
        most: of the nearest, to be named.
    """
    known = sorted(known)
    hint = did_you_mean(given, known, most=most)
    listed = f"{', '.join(known[:-1])} or {known[-1]}" if len(known) > 1 else ", ".join(known) or "none"
    return InputError(f"there is no {kind} {given!r}; {hint}{more or f'expected {listed}'}")
