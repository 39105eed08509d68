"""Folders of results: which files in them are ours, and replacing them without losing anything else."""

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcld.errors import InputError
from mcld.files import is_temporary, lock_file, sync_directory

LOCK, ASIDE = ".lock", ".replaced"  # in .replaced earlier versions put what they replaced
# What replaces the results of a folder is first written to .new, which is nothing yet. Renamed to .ready it is what
# counts, and the old results go; renamed to .moving they are gone, and its files take their places. So at whatever
# moment the process is killed, either the old results are whole or the new ones are, and the next process goes on.
NEW, READY, MOVING = ".new", ".ready", ".moving"
_TRIED = re.compile(r"\.mcld-[0-9a-z_]{8}")  # made only to see whether a folder can be made
_INTERNAL = frozenset({LOCK, ASIDE, NEW, READY, MOVING})


@dataclass(frozen=True)
class Owned:
    """One kind of results that have a folder of their own. Nothing but what is named here is ever deleted from it.

    Attributes:
        what: the kind, in words.
        names: what may be in the folder.
        marks: those that are all there in a whole one.
        begun: those that may be there when its start was cut short.
    """

    what: str
    names: frozenset[str]
    marks: frozenset[str]
    begun: frozenset[str]

    def is_there(self, path: str | os.PathLike[str]) -> bool:
        """Whether path is a folder with such results."""
        places = [Path(path) / inner for inner in ("", READY, MOVING)]
        return all(any((place / name).is_file() for place in places) for name in self.marks)

    def may_hold(self, name: str) -> bool:
        """Whether a name in the folder is ours, also as the temporary name of a file that was being written."""
        return name in self.names or name in _INTERNAL or self._is_left_over(name)

    def check_free(self, path: str | os.PathLike[str], *, force: bool, instead: str = "") -> None:
        """Check that new results can be made at path, writing nothing.

        Args:
            path: of the folder.
            force: whether results that are there may be replaced.
            instead: what else a person can do, for the message.

        Raises:
            InputError: when something is there already that ``force`` does not cover, or no directory can be made.
        """
        target = Path(path)
        try:
            if target.exists() and not target.is_dir():
                raise InputError(f"run={target} is a file; choose another name")
            entries = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
            place = target.absolute()
            while not place.exists() and place != place.parent:
                if place.is_symlink():
                    raise InputError(f"run={target} cannot be made: {place} is a link that leads nowhere")
                place = place.parent
        except OSError as error:
            raise InputError(f"run={target} cannot be made: {error.strerror}") from error
        # What a process left that was killed before it had made anything is nothing, and goes under the lock.
        entries = {name for name in entries if name not in (LOCK, NEW) and not self._is_left_over(name)}
        strange = sorted(name for name in entries if not self.may_hold(name))
        whole = self.is_there(target)
        more = {name for name in entries - _INTERNAL if name not in self.begun and not _is_empty(target / name)}
        if not whole and (strange or more):
            some = ", ".join((strange or sorted(more))[:3])
            raise InputError(f"run={target} holds other files, not a {self.what} ({some}); choose another name")
        if entries and not force:
            state = "exists already" if whole else f"holds the beginning of a {self.what}"
            raise InputError(f"run={target} {state}; {instead}choose another run=NAME, or replace it with --force")
        if strange:
            some = ", ".join(strange[:3])
            raise InputError(
                f"run={target} holds more than a {self.what} ({some}); move that away, or choose another run=NAME"
            )
        if not _takes_folders(place):
            raise InputError(f"run={target} cannot be made: {place} is not writable")

    def check_files(self, path: str | os.PathLike[str]) -> None:
        """Check that what is ours in a folder are files and folders, and nothing that leads out of it or never ends.

        A run directory may come from anybody: a link in it would have us read, write or delete what is elsewhere.

        Raises:
            InputError: for a symbolic link, a pipe or a device.
        """
        for name in sorted(self.names | _INTERNAL):
            file = Path(path) / name
            try:
                mode = file.lstat().st_mode
            except OSError:
                continue
            if stat.S_ISLNK(mode):
                raise InputError(
                    f"{file} is a symbolic link, and no link is followed out of a {self.what}'s folder; expected the "
                    "file or folder itself there"
                )
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise InputError(f"{file} is neither a file nor a folder; expected a {self.what} as mcld wrote it")

    @contextlib.contextmanager
    def replacing(self, path: str | os.PathLike[str], *, force: bool, instead: str = "") -> Iterator[Path]:
        """A folder for new results, under a lock; at the end of this context they are at path instead of the old ones.

        Until then the old ones stay as they are, also when the context ends with an exception or the process is killed.

        Raises:
            InputError: as :meth:`check_free`, or when another process has the lock.
        """
        self.check_free(path, force=force, instead=instead)
        folder = Path(path)
        there = folder.is_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"run={folder} cannot be made: {error.strerror}") from error
        with lock(folder, f"{self.what} {folder}"):
            self.check_free(path, force=force, instead=instead)  # another process may have had the lock until now
            self._finish(folder)
            self.clear(folder)
            new = folder / NEW
            new.mkdir()
            try:
                yield new
                sync_directory(new)
                new.rename(folder / READY)
            except BaseException:
                _remove(new)
                if not there:
                    (folder / LOCK).unlink(missing_ok=True)
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                raise
            self._finish(folder)

    def recover(self, path: str | os.PathLike[str]) -> None:
        """Finish what a process had begun that was killed while it replaced results.

        Raises:
            InputError: when another process has the lock, or the folder cannot be written.
        """
        folder = Path(path)
        if (folder / READY).is_dir() or (folder / MOVING).is_dir():
            with lock(folder, f"{self.what} {folder}"):
                try:
                    self._finish(folder)
                except OSError as error:
                    raise InputError(f"{folder} cannot be written: {error.strerror or error}") from error

    def clear(self, folder: Path) -> None:
        """Remove what processes left half written that were killed; only under the lock."""
        for name in (NEW, ASIDE):
            _remove(folder / name)
        for entry in folder.iterdir():
            if self._is_left_over(entry.name):
                _remove(entry)

    def _finish(self, folder: Path) -> None:
        self.check_files(folder)
        ready, moving = folder / READY, folder / MOVING
        if ready.is_dir():
            sync_directory(folder)
            for name in self.names:
                _remove(folder / name)
            ready.rename(moving)
        if moving.is_dir():
            sync_directory(folder)
            for entry in moving.iterdir():
                entry.rename(folder / entry.name)
            moving.rmdir()
            sync_directory(folder)

    def _is_left_over(self, name: str) -> bool:
        """Whether this is the temporary name of a file of ours, which was being written when the process was killed."""
        temporary = re.fullmatch(r"\.(.+)\.[^.]+\.tmp", name)
        return (
            is_temporary(name)
            or _TRIED.fullmatch(name) is not None
            or (temporary is not None and temporary[1] in self.names)
        )


@contextlib.contextmanager
def lock(folder: Path, what: str) -> Iterator[None]:
    """Keep other processes from writing to a folder; the lock ends with the process, however that ends.

    Raises:
        InputError: when another process has it, or there can be no lock.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock_file(folder / LOCK))
        except BlockingIOError as error:
            raise InputError(
                f"{what} is in use by another process ({error.strerror}); wait for it, or stop it"
            ) from error
        except OSError as error:
            raise InputError(
                f"{what} cannot be locked against other processes ({error.strerror}); expected a writable place on a "
                "file system with locks"
            ) from error
        yield


def _takes_folders(place: Path) -> bool:
    """Whether a folder can be made in a place: where permissions allow it, /proc and full disks still do not."""
    if not os.access(place, os.W_OK | os.X_OK):
        return False
    try:
        Path(tempfile.mkdtemp(prefix=".mcld-", dir=place)).rmdir()
    except OSError:
        return False
    return True


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
