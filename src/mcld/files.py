"""Writing files so that a reader sees the old content or the new, never half of it."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mcld.errors import InputError


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write data to path: to a temporary file beside it, flushed to disk, then renamed over it.

    Raises:
        InputError: when the disk is full or the place is not writable. The old file is then untouched.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # noqa: PTH101 (mkstemp makes it private)
        os.replace(temporary, target)  # noqa: PTH105 (a string is what mkstemp gives)
        temporary = None
        _sync_directory(target.parent)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror or error}; what was there before is untouched"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text as UTF-8, like :func:`atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def lock_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock on a file, which is made if need be; the lock ends with the process, however that ends.

    Raises:
        BlockingIOError: when another process has it.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system: no lock to be had
        yield
        return
    with open(path, "w") as file:  # noqa: PTH123
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_directory(path: Path) -> None:
    if os.name == "posix":  # a rename is durable only once its directory is
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
