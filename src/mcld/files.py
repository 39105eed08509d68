"""Reading files without ever waiting, and writing them so that a reader sees the old content or the new, never half."""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mcld.errors import InputError


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading if it is one: what is a pipe, a socket or a device could be waited for without end.

    Raises:
        OSError: when it is none, or cannot be opened; ``strerror`` says why.
    """
    # Not blocking: to open a pipe would already wait for somebody to write into it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
            kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
            raise OSError(errno.EINVAL, f"it is {kinds.get(stat.S_IFMT(mode), 'a device')}, no file", os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: str | os.PathLike[str], limit: int, more: str = "") -> bytes:
    """The whole content of a file that others may have made: it is never waited for, and has an end.

    Args:
        path: where.
        limit: bytes that it may have.
        more: what a person who needs more can do, such as ``set data.max_megapixels=400``.

    Raises:
        OSError: when it is no file, cannot be read or is too large; ``strerror`` says why.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""
    if size > limit or len(data) > limit:
        reason = f"it has {max(size, len(data)):,} bytes; expected at most {limit:,}{f', or {more}' if more else ''}"
        raise OSError(errno.EFBIG, reason, os.fspath(path))
    return data


def read_text(path: str | os.PathLike[str], limit: int = 2**26, expected: str = "a text file") -> str:
    """The content of a text file (UTF-8), like :func:`read_file`.

    Raises:
        InputError: when it cannot be read, is too large or no text.
    """
    try:
        return read_file(path, limit).decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read {os.fspath(path)}: {error.strerror or error}; expected {expected}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {os.fspath(path)}: {error}; expected {expected}") from None


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
