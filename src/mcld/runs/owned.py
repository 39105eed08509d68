"""Folders of results: which files in them are ours, and replacing them without losing anything else."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcld.errors import InputError
from mcld.files import lock_file

LOCK, ASIDE = ".lock", ".replaced"


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
        return all((Path(path) / name).is_file() for name in self.marks)

    def may_hold(self, name: str) -> bool:
        """Whether a name in the folder is ours, also as the temporary name of a file that was being written."""
        return _of(name, self.names)

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
            entries = {entry.name for entry in target.iterdir()} - {LOCK} if target.is_dir() else set()
            place = target.absolute()
            while not place.exists() and place != place.parent:
                if place.is_symlink():
                    raise InputError(f"run={target} cannot be made: {place} is a link that leads nowhere")
                place = place.parent
        except OSError as error:
            raise InputError(f"run={target} cannot be made: {error.strerror}") from error
        strange = sorted(name for name in entries if not self.may_hold(name))
        whole = self.is_there(target)
        more = {name for name in entries if not _of(name, self.begun) and not _is_empty(target / name)}
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
        if not os.access(place, os.W_OK | os.X_OK):
            raise InputError(f"run={target} cannot be made: {place} is not writable")

    @contextlib.contextmanager
    def replacing(self, path: str | os.PathLike[str], *, force: bool, instead: str = "") -> Iterator[None]:
        """Within this context new results are written, under a lock; the old ones go at its end.

        When the context ends with an exception the old ones are back.

        Raises:
            InputError: as :meth:`check_free`, or when another process has the lock.
        """
        self.check_free(path, force=force, instead=instead)
        folder = Path(path)
        aside = folder / ASIDE
        there = folder.is_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"run={folder} cannot be made: {error.strerror}") from error
        with lock(folder, f"run {folder}"):
            self.check_free(path, force=force, instead=instead)  # another process may have had the lock until now
            _remove(aside)
            aside.mkdir()
            try:
                _move(folder, aside)
                yield
            except BaseException:
                for entry in _content(folder):
                    _remove(entry)
                _move(aside, folder)
                _remove(aside)
                if not there:
                    (folder / LOCK).unlink(missing_ok=True)
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                raise
            _remove(aside)


@contextlib.contextmanager
def lock(folder: Path, what: str) -> Iterator[None]:
    """Keep other processes from writing to a folder; the lock ends with the process, however that ends.

    Raises:
        InputError: when another process has it, or the file system has no locks.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock_file(folder / LOCK))
        except BlockingIOError as error:
            raise InputError(f"{what} is in use by another process; wait for it, or stop it") from error
        except OSError as error:
            raise InputError(
                f"{what} cannot be locked against other processes ({error.strerror}); expected a writable place on a "
                "file system with locks"
            ) from error
        yield


def _of(name: str, names: frozenset[str]) -> bool:
    """Whether a name is one of these, or the temporary name of one that was being written."""
    temporary = re.fullmatch(r"\.(.+)\.[^.]+\.tmp", name)
    return name in names or name in (LOCK, ASIDE) or (temporary is not None and temporary[1] in names)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _content(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.name not in (LOCK, ASIDE)]


def _move(source: Path, target: Path) -> None:
    for entry in _content(source):
        entry.rename(target / entry.name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
