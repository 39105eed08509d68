"""A user's own images and labels in two npz files."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mcld.configs.data import Arrays
from mcld.data._classes import handful
from mcld.data._types import DataSet
from mcld.data.memory import tensor_data
from mcld.errors import InputError

_LAYOUT = "expected an npz file with images (N, H, W) or (N, H, W, 3) uint8 and labels (N,) integers"
_Part = tuple[NDArray[np.uint8], NDArray[np.int64], list[str] | None]


def load(options: Arrays) -> DataSet:
    """Read ``train`` and ``val``; random crops reach an eighth of the height, and colour images are mirrored.

    Classes are 0 to K − 1; their names are ``names`` (K,) where a file has them, else the numbers.

    Raises:
        InputError: for a file that is missing, damaged or made otherwise, or when the two do not belong together.
    """
    train, val = _read(options.train), _read(options.val)
    if train[0].shape[1:] != val[0].shape[1:]:
        raise InputError(
            f"training images are {_size(train[0])} ({options.train}) and validation images {_size(val[0])} "
            f"({options.val}); expected the same size and channels in both"
        )
    if train[2] is not None and val[2] is not None and train[2] != val[2]:
        raise InputError(
            f"names in {options.train} and {options.val} differ: {handful(train[2])} and {handful(val[2])}; "
            "expected the same classes in the same order"
        )
    names = train[2] or val[2]
    count = len(names) if names else int(train[1].max()) + 1
    for path, (_, labels, _) in ((options.train, train), (options.val, val)):
        if labels.min() < 0 or labels.max() >= count:
            raise InputError(
                f"labels in {path} range from {labels.min()} to {labels.max()}; expected 0 to {count - 1}"
                + (f", for the {count} classes in names" if names else ", as in the training file")
            )
    if options.classes is not None and options.classes > count:
        raise InputError(f"classes is {options.classes} and the data has {count}; expected at most {count}")
    kept = options.classes or count
    names = (names or [str(label) for label in range(count)])[:kept]
    train, val = _first(train, kept), _first(val, kept)
    absent = sorted(set(range(kept)) - set(np.unique(train[1]).tolist()))
    if absent:
        raise InputError(
            f"labels in {options.train} do not include {', '.join(map(str, absent[:5]))}"
            + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
            + f"; expected images of every class from 0 to {kept - 1}"
        )
    if len(val[1]) == 0:
        raise InputError(f"{options.val} holds no image of the first {kept} classes; expected at least one")
    colour, height = train[0].shape[1] == 3, train[0].shape[2]
    return tensor_data(
        "arrays",
        names,
        _tensors(train),
        _tensors(val),
        padding=max(1, height // 8) if options.padding is None else options.padding,
        flip=colour if options.flip is None else options.flip,
        options=options,
    )


def _read(given: str) -> _Part:
    """(images (N, channels, H, W), labels (N,), names or None) of one file."""
    path = Path(given).expanduser()
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise InputError(f"{given} holds a single array; {_LAYOUT}")
            missing = [key for key in ("images", "labels") if key not in archive.files]
            if missing:
                raise InputError(f"{given} has no {' and no '.join(missing)}, only {handful(archive.files)}; {_LAYOUT}")
            images, labels = archive["images"], archive["labels"]
            names = [str(name) for name in archive["names"]] if "names" in archive.files else None
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {given}: {error.strerror or error}; {_LAYOUT}") from None
    except (ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = "it holds Python objects, which are never unpickled" if "allow_pickle" in str(error) else str(error)
        raise InputError(f"{given} is not an npz file of plain arrays, or damaged ({reason}); {_LAYOUT}") from None
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise InputError(f"images in {given} are {images.dtype} {images.shape}; {_LAYOUT}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise InputError(f"labels in {given} are {labels.dtype} {labels.shape} for {len(images)} images; {_LAYOUT}")
    if names is not None and len(set(names)) != len(names):
        raise InputError(
            f"names in {given} holds a name twice: {handful(sorted(names))}; expected {len(names)} different"
        )
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels.astype(np.int64), names


def _first(part: _Part, classes: int) -> _Part:
    images, labels, names = part
    keep = labels < classes
    return (images, labels, names) if keep.all() else (images[keep], labels[keep], names)


def _tensors(part: _Part) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(part[0]), torch.from_numpy(part[1])


def _size(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[2]}×{images.shape[3]} with {images.shape[1]} channels"
