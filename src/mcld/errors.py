"""The one exception that means: the input is wrong, and here is what would be right."""

from mcld.text import printable


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
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else text, 1, True
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no reason given'}", 1, False
