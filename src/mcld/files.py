"""Files that a reader sees whole or not at all, that never make a reader wait, and locks."""

import contextlib
import errno
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from mcld.errors import InputError

SMALL = 64 * 2**20
"""Bytes of the largest settings, tables and results that are read."""
MORE = "set the environment variable MCLD_MAX_FILE_GB"
"""What a person can do who needs a larger file of weights."""
_TEMPORARY = re.compile(r"\..*\.mcld-[0-9a-z_]{8}\.tmp")


def largest_file() -> int:
    """Bytes of the largest file of weights that is read: ``$MCLD_MAX_FILE_GB``, by default 16 GB.

    Raises:
        InputError: when the variable is no positive number.
    """
    given = os.environ.get("MCLD_MAX_FILE_GB") or "16"
    try:
        size = float(given)
    except ValueError:
        size = -1.0
    if not 0 < size < float("inf"):
        raise InputError(f"MCLD_MAX_FILE_GB={given}; expected a positive number of gigabytes")
    return int(size * 1e9)


def open_descriptor(path: str | os.PathLike[str], flags: int, *, follow: bool = True) -> int:
    """The descriptor of a regular file, opened without waiting: a pipe that nobody writes to would be waited for.

    Args:
        path: where.
        flags: as for ``os.open``.
        follow: whether the path itself may be a symbolic link.

    Raises:
        OSError: when it is no file, or cannot be opened; ``strerror`` says why.
    """
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
        if os.path.islink(path):  # noqa: PTH114 (any kind of path)
            raise OSError(errno.ELOOP, "it is a symbolic link; expected the file itself", os.fspath(path))
    descriptor = os.open(path, flags, 0o666)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
        if not stat.S_ISREG(mode):
            kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
            raise OSError(errno.EINVAL, f"it is {kinds.get(stat.S_IFMT(mode), 'a device')}, no file", os.fspath(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_regular(path: str | os.PathLike[str], *, follow: bool = True) -> BinaryIO:
    """Open a file for reading if it is one: what is a pipe, a socket or a device could be waited for without end.

    Args:
        path: where.
        follow: whether the path itself may be a symbolic link.

    Raises:
        OSError: when it is none, or cannot be opened; ``strerror`` says why.
    """
    return os.fdopen(open_descriptor(path, os.O_RDONLY, follow=follow), "rb")


def read_file(path: str | os.PathLike[str], limit: int = SMALL, more: str = "", *, follow: bool = True) -> bytes:
    """The whole content of a file that others may have made: it is never waited for, and has an end.

    Args:
        path: where.
        limit: bytes that it may have.
        more: what a person who needs more can do, such as ``set data.max_megapixels=400``.
        follow: whether the path itself may be a symbolic link.

    Raises:
        OSError: when it is no file, cannot be read or is too large; ``strerror`` says why.
    """
    with open_regular(path, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""
    if size > limit or len(data) > limit:
        reason = f"it has {max(size, len(data)):,} bytes; expected at most {limit:,}{f', or {more}' if more else ''}"
        raise OSError(errno.EFBIG, reason, os.fspath(path))
    return data


def read_text(path: str | os.PathLike[str], limit: int = SMALL, expected: str = "a text file") -> str:
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


def append_text(path: str | os.PathLike[str], text: str) -> None:
    """Add text at the end of a regular file, which is made if need be; a symbolic link is not followed.

    Raises:
        OSError: when that cannot be done.
    """
    with os.fdopen(open_descriptor(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, follow=False), "ab") as file:
        file.write(text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A temporary file beside path, which at the end of the context is flushed to disk and renamed over it.

    What processes that were killed left half written in the same folder is removed.

    Raises:
        OSError: when it cannot be written. The old file is then untouched, as after any other exception.
    """
    target = Path(path)
    _clear(target.parent)
    descriptor, temporary = _make_temporary(target)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
            os.fchmod(descriptor, 0o666 & ~_umask())  # mkstemp makes it private
            os.replace(temporary, target)  # noqa: PTH105 (a string is what mkstemp gives)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise
    sync_directory(target.parent)


def home_path(path: str) -> Path:
    """A path that a person gave, with ``~`` and ``~USER`` spelt out.

    Raises:
        InputError: for a user who has no home folder here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        user = path.partition("/")[0]
        raise InputError(f"{path}: there is no user {user[1:]!r} with a home folder here") from error


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write data to path: to a temporary file beside it, flushed to disk, then renamed over it.

    Raises:
        InputError: when the disk is full or the place is not writable. The old file is then untouched.
    """
    try:
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text as UTF-8, like :func:`atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def lock_file(
    path: str | os.PathLike[str],
    *,
    patience: float = 0.0,
    waiting: Callable[[str], None] | None = None,
    give_up: Callable[[], bool] | None = None,
) -> Iterator[None]:
    """Hold the lock on a file, which is made if need be.

    It ends with the process, however that ends: no child process inherits it.

    Args:
        path: of the file; no symbolic link.
        patience: seconds to wait for another process.
        waiting: hears once, after a second, whom the wait is for.
        give_up: asked while waiting whether to stop.

    Raises:
        BlockingIOError: when another process has it; ``strerror`` names it.
        OSError: when there can be no lock, such as on a file system without them.
    """
    from filelock import FileLock, Timeout

    os.close(open_descriptor(path, os.O_RDWR | os.O_CREAT, follow=False))
    lock = FileLock(path, fallback_to_soft=False)
    began, told = time.monotonic(), waiting is None
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout as error:
            waited = time.monotonic() - began
            if waited >= patience or (give_up is not None and give_up()):
                raise BlockingIOError(errno.EWOULDBLOCK, f"{holder(path)} has its lock", str(path)) from error
            if waiting is not None and not told and waited >= 1:
                told = True
                waiting(holder(path))
        time.sleep(0.05)
    try:
        yield
    finally:
        lock.release()


def holder(path: str | os.PathLike[str]) -> str:
    """Who holds the lock on a file, as far as the system tells: ``process 12``, ``process 12 (stopped)``."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        inode = os.stat(path).st_ino  # noqa: PTH116
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
                state = Path(f"/proc/{words[4]}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
                return f"process {words[4]}{' (stopped)' if state in 'Tt' else ''}"
    return "another process"


def sync_directory(path: Path) -> None:
    """Wait until the names in a folder are on disk: a rename is durable only then."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_temporary(name: str) -> bool:
    """Whether a name is one that :func:`replacing` makes."""
    return _TEMPORARY.fullmatch(name) is not None


def _make_temporary(target: Path) -> tuple[int, str]:
    """A new file, whose lock says that it is in use, and its name."""
    while True:
        prefix = f".{target.name[:100]}.mcld-"
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=".tmp")
        if _lock_at_once(descriptor) is not False and os.fstat(descriptor).st_nlink:
            return descriptor, name
        os.close(descriptor)  # another process took it for one that was left


def _clear(folder: Path) -> None:
    """Remove what :func:`replacing` left here when its process was killed: files that nobody holds the lock on."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for path in [entry.path for entry in entries if is_temporary(entry.name)]:
            with contextlib.suppress(OSError):
                descriptor = open_descriptor(path, os.O_RDWR, follow=False)
                try:
                    if _lock_at_once(descriptor):
                        os.unlink(path)  # noqa: PTH108
                finally:
                    os.close(descriptor)


def _lock_at_once(descriptor: int) -> bool | None:
    """Take the lock of an open file; whether that was possible, None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, ImportError):
        return None
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
