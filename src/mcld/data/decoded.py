"""Decoded images of one split in one memory-mapped file of the user's cache, so that each is decoded once."""

import contextlib
import hashlib
import logging
import math
import mmap
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mcld.data.cache import cache_dir, listing_key
from mcld.data.formats import open_image
from mcld.data.images import Reading, read_image, reduction
from mcld.data.room import free_memory, in_words
from mcld.errors import InputError
from mcld.files import lock_file, open_regular, replacing

# The file: the pixels of all images, one row (offset, width, height, crc32) for each, and this: a mark, the key, the
# digest of the rows, how many they are.
_TAIL = struct.Struct("<8s32s32sq")
_MARK = b"mcldpix1"
_DISK, _MEMORY = 0.25, 0.5
_PATIENCE = 60.0
"""Seconds to wait for another process that decodes the same images and gets no further: it may have been stopped."""


class DecodedImages:
    """The images of a cache file that :func:`decoded_images` has found whole.

    Args:
        path: the file.
        mode: ``RGB`` or ``L``.
        rows: (N, 4) int64: offset, width, height and checksum of each image.
    """

    def __init__(self, path: Path, mode: str, rows: NDArray[np.int64]) -> None:
        self._path, self._mode, self._rows = path, mode, rows
        self._pixels: mmap.mmap | None = None
        self._whole = np.zeros(len(rows), dtype=bool)  # whose checksum has been found right

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapping: a worker process that is not forked opens its own."""
        return {**self.__dict__, "_pixels": None}

    def read(self, index: int) -> Tensor | None:
        """The pixels (channels, height, width) uint8 of an image, as :func:`mcld.data.images.read_image` decodes it.

        None when they are damaged, which each process looks for when it first reads an image; the file is then deleted,
        so that the next start makes it again. The tensor is a view of the file's pages, not a copy.
        """
        offset, width, height, checksum = self._rows[index].tolist()
        with contextlib.suppress(OSError, ValueError):
            if self._pixels is None:
                with open_regular(self._path) as file:
                    self._pixels = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # as tensors are writable
            count = width * height * len(self._mode)
            pixels = torch.frombuffer(self._pixels, dtype=torch.uint8, count=count, offset=offset)
            if not self._whole[index]:
                self._whole[index] = zlib.crc32(pixels.numpy().data) == checksum
            if self._whole[index]:
                return pixels.view(height, width, len(self._mode)).permute(2, 0, 1)
        with contextlib.suppress(OSError):
            self._path.unlink()
        return None


def decoded_images(
    choice: str, root: str, files: Sequence[str], mode: str, reading: Reading
) -> tuple[DecodedImages | None, tuple[str, ...]]:
    """The decoded images of one split, made at the first call; they are bound to the files' paths, sizes and times.

    Args:
        choice: ``on``, ``off``, or ``auto``: only where they take at most a quarter of the disk space that is left and
            half of the memory that is free, as estimated from some of the files. Beyond that, reading pixels from the
            disk would cost more than decoding.
        root: the folder that the files are relative to.
        files: relative paths.
        mode: ``RGB`` or ``L``.
        reading: how files are decoded.

    Returns:
        (the images, or None where files are to be decoded each time; notes for the user).

    Raises:
        InputError: for another choice, an image that cannot be read, or with ``on`` a cache that cannot be written.
    """
    if choice not in ("auto", "on", "off"):
        raise InputError(f"data.cache={choice}; expected auto, on or off")
    if choice == "off":
        return None, ()
    key = bytes.fromhex(listing_key(root, files, "decoded", mode, 3, reading.depth, reading.enough))
    place = hashlib.sha256(
        f"{Path(root).resolve()}/{mode}/{reading.enough}".encode("utf-8", "surrogateescape")
    ).hexdigest()
    path = cache_dir() / "decoded" / f"{place[:32]}.pixels"  # one for each folder: a stale one is written over
    rows = _read_rows(path, key, len(files), len(mode))
    if rows is not None:
        return DecodedImages(path, mode, rows), ()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        size = _estimate(root, files, mode, reading)
        if choice == "auto" and not _fits(size, path.parent):
            return None, (f"{root}: decoded, the images would take about {in_words(size)}, too much to keep them",)
        say = f"{root}: waiting for %s, which decodes these images; data.cache=off decodes them each time"
        told, progress = logging.getLogger(__name__).warning, _Progress(path)
        lock = path.with_suffix(".lock")
        with lock_file(lock, patience=math.inf, waiting=lambda who: told(say, who), give_up=progress.stalled):
            rows = _read_rows(path, key, len(files), len(mode))  # another process may have been first
            if rows is not None:
                return DecodedImages(path, mode, rows), ()
            rows = _write(path, key, root, files, mode, reading)
    except BlockingIOError as error:
        if choice == "on":
            raise InputError(
                f"data.cache=on: {error.strerror} and gets no further; end it, or set data.cache=off"
            ) from None
        return None, (f"{root}: the decoded images cannot be kept: {error.strerror} and gets no further",)
    except OSError as error:
        if choice == "on":
            raise InputError(f"data.cache=on: cannot write {path}: {error.strerror or error}") from None
        return None, (f"{root}: the decoded images cannot be kept: cannot write {path}: {error.strerror or error}",)
    note = (
        f"{root}: kept {len(files):,} decoded images ({in_words(path.stat().st_size)}) in {path}; off: data.cache=off"
    )
    return DecodedImages(path, mode, rows), (note,)


def _read_rows(path: Path, key: bytes, count: int, channels: int) -> NDArray[np.int64] | None:
    """The rows of a whole cache file for this key; None when it is absent, stale or damaged."""
    try:
        with open_regular(path) as file:
            file.seek(-_TAIL.size - 32 * count, os.SEEK_END)
            pixels, content = file.tell(), file.read(32 * count)
            mark, found, digest, rows = _TAIL.unpack(file.read())
    except (OSError, ValueError, struct.error):
        return None
    if (mark, found, digest, rows) != (_MARK, key, hashlib.sha256(content).digest(), count):
        return None
    table = np.frombuffer(content, dtype="<i8").reshape(count, 4)
    offset, width, height, _ = table[-1].tolist()
    return table if pixels == offset + width * height * channels else None


def _write(path: Path, key: bytes, root: str, files: Sequence[str], mode: str, reading: Reading) -> NDArray[np.int64]:
    rows = np.zeros((len(files), 4), dtype="<i8")
    with replacing(path) as file:
        offset = 0
        for row, (data, width, height) in enumerate(_decode_all(root, files, mode, reading)):
            file.write(data)
            rows[row] = offset, width, height, zlib.crc32(data)
            offset += len(data)
        content = rows.tobytes()
        file.write(content + _TAIL.pack(_MARK, key, hashlib.sha256(content).digest(), len(files)))
    return rows


def _decode_all(root: str, files: Sequence[str], mode: str, reading: Reading) -> Iterator[tuple[bytes, int, int]]:
    def decode(file: str) -> tuple[bytes, int, int]:
        image = read_image(os.path.join(root, file), mode, reading)  # noqa: PTH118
        return image.tobytes(), *image.size

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for first in range(0, len(files), 256):  # not all at once: what is decoded waits in memory
            yield from pool.map(decode, files[first : first + 256])


def _estimate(root: str, files: Sequence[str], mode: str, reading: Reading, sample: int = 256) -> int:
    """Bytes of all decoded images, from the sizes of evenly spaced ones."""
    chosen = files[:: max(1, len(files) // sample)]
    total = 0
    for file in chosen:
        path = os.path.join(root, file)  # noqa: PTH118
        try:
            with open_regular(path) as stream, open_image(stream, file, reading.megapixels) as image:
                factor = reduction(image.size, reading.enough)
                total += image.width * image.height * len(mode) // factor**2
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None
        except ValueError as error:
            raise InputError(f"cannot read the image {path}: {error}; replace or remove it") from None
    return total * len(files) // max(1, len(chosen))


def _fits(size: int, folder: Path) -> bool:
    return size <= _DISK * shutil.disk_usage(folder).free and size <= _MEMORY * free_memory()


class _Progress:
    """Whether the process that decodes the images still does: asked while another waits for it."""

    def __init__(self, path: Path) -> None:
        self._path, self._size, self._since = path, -1, time.monotonic()

    def stalled(self) -> bool:
        """True when what it writes has not grown for a while."""
        size = 0
        with contextlib.suppress(OSError), os.scandir(self._path.parent) as entries:
            size = sum(e.stat().st_size for e in entries if e.name.startswith(f".{self._path.name}"))
        now = time.monotonic()
        if size != self._size:
            self._size, self._since = size, now
        return now - self._since > _PATIENCE
