import errno
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from mcld.errors import InputError
from mcld.files import (
    append_text,
    atomic_write_bytes,
    atomic_write_text,
    largest_file,
    lock_file,
    open_descriptor,
    open_regular,
    read_file,
    read_text,
    replacing,
)


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    atomic_write_text(file, "old")
    atomic_write_text(file, "new ü")
    assert file.read_text(encoding="utf-8") == "new ü"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert file.stat().st_mode & 0o600 == 0o600


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = tmp_path / "file"
    atomic_write_bytes(file, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(InputError, match=r"cannot write .*file: No space left on device"):
        atomic_write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
    for name, kind in {"pipe": "a pipe", "link": "a pipe", ".": "a folder"}.items():
        with pytest.raises(OSError, match=f"it is {kind}"):
            open_regular(tmp_path / name)
    for path in (tmp_path / "socket", Path("/dev/zero"), tmp_path / "absent"):
        with pytest.raises(OSError, match=r"device|No such"):
            read_file(path, 10)
    with pytest.raises(InputError, match=r"cannot read .*pipe: it is a pipe, no file; expected a text file"):
        read_text(tmp_path / "pipe")


def test_a_file_has_an_end(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("0123456789")
    assert read_file(file, 10) == b"0123456789"
    with pytest.raises(OSError, match=r"it has 10 bytes; expected at most 9, or set data\.more=1"):
        read_file(file, 9, "set data.more=1")
    with pytest.raises(OSError, match="expected at most 5"):
        read_file("/proc/self/status", 5)  # which says that it has none
    with pytest.raises(InputError, match="it has 10 bytes; expected at most 9; expected a list"):
        read_text(file, 9, "a list")
    file.write_bytes(b"\xff")
    with pytest.raises(InputError, match="can't decode"):
        read_text(file)


def test_what_a_killed_process_left_half_written_goes_at_the_next_write(tmp_path: Path) -> None:
    """But not what another process is still writing, nor what is not ours."""
    left = []
    for end in (signal.SIGKILL, signal.SIGSTOP):
        child = os.fork()
        if child == 0:
            with replacing(tmp_path / f"file{end}") as file:
                file.write(b"half")
                file.flush()
                os.kill(os.getpid(), end)
        os.waitpid(child, os.WUNTRACED)
        left += [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(f".file{end}.")]
    assert len(left) == 2
    (tmp_path / ".notes.abc.tmp").write_text("mine")
    atomic_write_text(tmp_path / "other", "")
    try:
        assert {entry.name for entry in tmp_path.iterdir()} == {left[1], ".notes.abc.tmp", "other"}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    atomic_write_text(tmp_path / "other", "")
    assert {entry.name for entry in tmp_path.iterdir()} == {".notes.abc.tmp", "other"}


def test_only_regular_files_of_a_known_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes; expected at most 4"):
        read_file(tmp_path / "file", 4)
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY):
        with pytest.raises(OSError, match=r"it is a pipe|No such device"):
            open_descriptor(tmp_path / "pipe", flags)
    with pytest.raises(OSError, match=r"it is a pipe|No such device"):
        append_text(tmp_path / "pipe", "x")
    assert time.monotonic() - began < 1
    with pytest.raises(OSError, match="it is a device"):
        read_file("/dev/zero")
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_file(tmp_path / "link") == b"12345"
    for action in (lambda: read_file(tmp_path / "link", follow=False), lambda: append_text(tmp_path / "link", "x")):
        with pytest.raises(OSError, match="it is a symbolic link"):
            action()
    with pytest.raises(OSError, match="it is a symbolic link"), lock_file(tmp_path / "link"):
        pass
    assert (tmp_path / "file").read_bytes() == b"12345"
    assert largest_file() == 16_000_000_000
    monkeypatch.setenv("MCLD_MAX_FILE_GB", "0.5")
    assert largest_file() == 500_000_000
    monkeypatch.setenv("MCLD_MAX_FILE_GB", "much")
    with pytest.raises(InputError, match="MCLD_MAX_FILE_GB=much; expected a positive number"):
        largest_file()


def test_waiting_for_a_lock_says_for_whom_and_can_be_given_up(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with lock_file(tmp_path / "lock"):
            os.write(writer, b"x")
            signal.pause()
    os.read(reader, 1)
    os.kill(child, signal.SIGSTOP)
    os.waitpid(child, os.WUNTRACED)
    lines: list[str] = []
    began = time.monotonic()
    with (
        pytest.raises(BlockingIOError, match=rf"process {child} \(stopped\) has its lock"),
        lock_file(tmp_path / "lock", patience=1.5, waiting=lines.append),
    ):
        pass
    assert lines == [f"process {child} (stopped)"]
    assert 1.4 < time.monotonic() - began < 5
    began = time.monotonic()
    with pytest.raises(BlockingIOError), lock_file(tmp_path / "lock", patience=60, give_up=lambda: True):
        pass
    assert time.monotonic() - began < 1
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with lock_file(tmp_path / "lock"):
        pass
