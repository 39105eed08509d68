"""Reading npz files that others made: what is in one is known before any of it is decompressed."""

import lzma
import math
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcld.data.room import free_memory, in_words
from mcld.files import open_regular

_SMALL = 2**26
_RATIO, _MEMORY = 100, 0.5
_DAMAGES = (ValueError, EOFError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Header:
    """What an array is, without its values.

    Attributes:
        shape: its shape.
        dtype: its type.
        stored: bytes that it takes in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: int

    @property
    def bytes(self) -> int:
        """Bytes that it takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


class NpzFile:
    """The arrays of an npz file; a context.

    Args:
        path: where; only a file is opened, so it never waits.

    Raises:
        OSError: when there is no file that can be read.
        ValueError: when it is none, or damaged, in a few words.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_regular(path)
        try:
            self._archive = zipfile.ZipFile(self._file)
        except _DAMAGES as error:
            self._file.close()
            raise ValueError(str(error) or type(error).__name__) from None
        self.names = [name.removesuffix(".npy") for name in self._archive.namelist()]
        """What the arrays are called."""
        self._members = dict(zip(self.names, self._archive.infolist(), strict=True))

    def __enter__(self) -> "NpzFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()
        self._file.close()

    def header(self, name: str) -> Header:
        """What an array is.

        Raises:
            ValueError: when it is damaged or holds Python objects, which are never unpickled.
        """
        member = self._members[name]
        try:
            with self._archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                if version not in _READERS:
                    raise ValueError(f"it is of version {version} of the format")
                shape, _, dtype = _READERS[version](stream)
        except (SyntaxError, tokenize.TokenError, RecursionError, MemoryError):  # a header is read as Python is
            raise ValueError(f"the header of {name!r} is damaged") from None
        except _DAMAGES as error:
            raise ValueError(str(error) or type(error).__name__) from None
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never unpickled")
        found = Header(shape, dtype, member.compress_size)
        if min(shape, default=0) < 0 or found.bytes > member.file_size:
            raise ValueError(f"{name!r} says that it is {dtype} {shape}, and is smaller")
        return found

    def read(self, name: str) -> NDArray[Any]:
        """An array.

        Raises:
            ValueError: when it is damaged.
        """
        try:
            with self._archive.open(self._members[name]) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        except _DAMAGES as error:
            raise ValueError(str(error) or type(error).__name__) from None


def too_large(header: Header, limit: float | None) -> str:
    """Why an array is not to be read, in words; nothing where it is small enough.

    Args:
        header: what it is.
        limit: GB (10⁹ bytes) that it may take; None: half of the free memory, and from 64 MB on 100 times what it takes
            in the file. Photos shrink to half when they are compressed, drawings to a tenth.
    """
    size = in_words(header.bytes)
    if limit is not None:
        return f"take {size}; expected at most data.max_gb={limit:g}" if header.bytes > limit * 1e9 else ""
    enough = math.ceil(header.bytes / 1e9 * 10) / 10
    if header.bytes > _SMALL and header.bytes > _RATIO * header.stored:
        times = header.bytes // max(1, header.stored)
        return f"take {size}, {times:,} times their room in the file; if that is right, set data.max_gb={enough:g}"
    if header.bytes > _MEMORY * (free := free_memory()):
        return f"take {size} and {in_words(free)} of memory are free; if that is enough, set data.max_gb={enough:g}"
    return ""
