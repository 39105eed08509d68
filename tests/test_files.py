import errno
import os
import socket
from pathlib import Path

import pytest

from mcld.errors import InputError
from mcld.files import atomic_write_bytes, atomic_write_text, open_regular, read_file, read_text


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
