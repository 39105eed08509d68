"""Reading weights from files without running anything that is in them."""

import argparse
import io
import os
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from mcld.errors import InputError
from mcld.files import MORE, largest_file, open_regular, read_file
from mcld.models._digest import Digests, kept_digests, state_digest

# What training scripts put beside the weights and what can do no harm: parsed arguments, and numpy numbers (a reported
# accuracy), under numpy's old and new module name. Only numeric dtypes: others may hold Python objects.
_DTYPES = [type(np.dtype(kind)) for kind in "?bhilqBHILQefd"]
_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *_DTYPES,
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
# How PyTorch says what a file asked for, and why it stopped reading.
_ASKED = re.compile(
    r"GLOBAL ([\w.]+)|Trying to (?:call reduce for unrecognized function|instantiate unsupported class) ([^\n]+)"
)
_REASON = re.compile(r"(?:WeightsUnpickler error: |^(?!Weights only))(.*?)(?: Check the documentation|$)")


def read_safetensors(file: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a safetensors file; where a digest was written with the weights, they are checked against it.

    Raises:
        InputError: when the file is absent, cut short or damaged.
    """
    data = _bytes(Path(file))
    try:
        state = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise InputError(f"{file} is not a whole safetensors file ({error}); it may be cut short or damaged") from error
    kept = kept_digests(data)
    if kept is not None and kept.weights != state_digest(state, kept.spec):
        raise InputError(f"{file} is damaged: its weights do not match the digest that was written with them")
    return state


def read_digests(file: str | os.PathLike[str]) -> Digests | None:
    """The digests that a safetensors file keeps with its weights, unchecked; None where there are none.

    Raises:
        InputError: when there is no such file.
    """
    length = int.from_bytes(_bytes(Path(file), 8), "little")
    return kept_digests(_bytes(Path(file), 8 + length)) if length < 2**27 else None


def read_torch(file: str | os.PathLike[str]) -> Any:
    """Read a file of ``torch.save``, tensors on the CPU, with nothing but an allow-list of types.

    Raises:
        InputError: when the file is absent or damaged, or asks for a type that is not allowed; nothing is run.
    """
    path = Path(file)
    return unpickle(_bytes(path), path)


def unpickle(data: bytes, path: Path) -> Any:
    """What a file of ``torch.save`` holds, with nothing but an allow-list of types.

    Args:
        data: the content of the file.
        path: of the file, for messages.

    Raises:
        InputError: as :func:`read_torch`.
    """
    _check_unpacked(data, path)
    _check_sums(data, path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")  # of old storage types in files that somebody else wrote
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes may fail anywhere in the reader
        asked = _ASKED.search(str(error))
        if asked:
            raise InputError(
                f"{path} refused: it asks for {(asked[1] or asked[2]).strip()}, which may run code, and nothing of it "
                "was run; ask its author for the bare state dict, best as safetensors"
            ) from error
        # PyTorch's own text recommends to unpickle the file after all; only the reason in it is of use here.
        reason = _REASON.search(" ".join(str(error).split()))
        why = f": {reason[1][:200]}" if reason else ""
        raise InputError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}{why}); expected a whole file of torch.save "
            "or safetensors"
        ) from error


def is_safetensors(file: str | os.PathLike[str]) -> bool:
    """Tell by its content whether a file is safetensors: a length of 8 bytes, then JSON.

    Raises:
        InputError: when there is no such file.
    """
    return _bytes(Path(file), 9)[8:] == b"{"


def _check_unpacked(data: bytes, path: Path) -> None:
    """Refuse an archive whose members are larger, unpacked, than a file may be."""
    if data[:2] != b"PK":
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # PyTorch's own reader says what is wrong with it
    if size > largest_file():
        raise InputError(f"{path} would take {size:,} bytes unpacked; expected at most {largest_file():,}, or {MORE}")


def _check_sums(data: bytes, path: Path) -> None:
    """Check the sums that ``torch.save`` writes into its files, which ``torch.load`` does not look at.

    Raises:
        InputError: when a part does not match its sum.
    """
    if data[:2] != b"PK":
        return  # the older kind of file has none
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            damaged = parts.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, ValueError):
        return  # PyTorch's own reader says what is wrong with it
    if damaged is not None:
        raise InputError(
            f"{path} is damaged: its part {damaged} does not match its checksum; expected a whole file (one written "
            "with torch.serialization.set_crc32_options(False) has none: write it anew without that, or as safetensors)"
        )


def _bytes(path: Path, count: int | None = None) -> bytes:
    try:
        if count is None:
            return read_file(path, largest_file(), MORE)
        with open_regular(path) as stream:
            return stream.read(count)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; expected a file with weights") from error
