"""Fetching a published archive, so that a folder is either whole or not there."""

import contextlib
import http.client
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mcld.data.cache import cache_dir
from mcld.errors import InputError
from mcld.files import home_path, lock_file


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes:
        title: the data set, for messages.
        url: where it is.
        md5: of the archive.
        folder: the folder inside it.
        layout: the files that the folder holds, in words.
    """

    title: str
    url: str
    md5: str
    folder: str
    layout: str


def locate(archive: Archive, path: str | None, download: bool) -> Path:
    """The archive's folder: below ``path``, or ``path`` itself; fetched there first when allowed and needed.

    Args:
        archive: what to look for.
        path: where; None for the user's cache folder.
        download: whether it may be fetched.

    Raises:
        InputError: with the steps to do by hand, when it is not there and cannot be fetched.
    """
    root = home_path(path) if path else cache_dir() / "datasets"
    folder = root / archive.folder
    if folder.is_dir():
        return folder
    if root.name == archive.folder and root.is_dir():
        return root
    if not download:
        raise _by_hand(archive, root, "data.download is off")
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        root.mkdir(parents=True, exist_ok=True)
        # Beside its final place, then renamed: an interruption leaves nothing that looks like the data set, and of two
        # processes that fetch at once the later one finds the folder there and keeps it.
        _clear(root)
        with (
            tempfile.TemporaryDirectory(dir=root, prefix=".fetching-") as temporary,
            lock_file(Path(temporary) / "lock"),
        ):
            download_and_extract_archive(archive.url, temporary, md5=archive.md5)
            try:
                os.rename(Path(temporary) / archive.folder, folder)  # noqa: PTH104
            except OSError:
                if not folder.is_dir():
                    raise
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:  # URLError is an OSError
        raise _by_hand(archive, root, " ".join(str(error).split()) or type(error).__name__) from None
    return folder


def _clear(root: Path) -> None:
    """Remove what processes that were killed had begun to fetch; one that is at it holds a lock."""
    for left in root.glob(".fetching-*"):
        if not left.is_symlink():
            with contextlib.suppress(OSError), lock_file(left / "lock"):
                shutil.rmtree(left)


def _by_hand(archive: Archive, root: Path, reason: str) -> InputError:
    if root.is_dir():
        entries = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
        found = (", ".join(entries[:5]) + (f" and {len(entries) - 5} more" if len(entries) > 5 else "")) or "nothing"
    else:
        found = "no such folder"
    return InputError(
        f"{archive.title} is not in {root} (found: {found}) and was not fetched: {reason}; by hand: get {archive.url} "
        f"(md5 {archive.md5}) on a machine with a network, unpack it in {root}, so that {root / archive.folder} holds "
        f"{archive.layout}; or point data.path at the folder where it is"
    )
