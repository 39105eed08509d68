"""A user's own images and labels in two npz files."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mcld.data._classes import handful
from mcld.data._types import DataSet
from mcld.data.memory import tensor_data
from mcld.data.npz import Header, NpzFile, too_large
from mcld.data.options import DataOptions
from mcld.errors import InputError
from mcld.files import home_path
from mcld.options import MISSING, File, between
from mcld.registry import register_data
from mcld.text import name_of

_LAYOUT = "expected an npz file with images (N, H, W) or (N, H, W, 3) uint8 and labels (N,) integers"
_Part = tuple[NDArray[np.uint8], NDArray[Any], list[str] | None]


@dataclass(frozen=True)
class Arrays(DataOptions):
    """Your own npz files: ``images`` (N, H, W) or (N, H, W, 3) uint8, ``labels`` (N,), and perhaps ``names`` (K,).

    Attributes:
        train: the file with the training images.
        val: the file with the validation images.
        classes: keep only the first so many classes.
        padding: pixels of zeros around the image that a random crop may reach; by default an eighth of the height.
        flip: mirror half of the training images; by default only colour images are.
        max_gb: the most memory that an array may take, in GB; by default half of what is free, and 100 times its
            size in the file.
    """

    train: File = MISSING
    val: File = MISSING
    classes: Annotated[int, between(1, 1_000_000)] | None = None
    padding: Annotated[int, between(0, 10_000)] | None = None
    flip: bool | None = None
    max_gb: Annotated[float, between(1e-6, 1_000_000)] | None = None


@register_data("arrays", "images and labels in npz files")
def load(options: Arrays) -> DataSet:
    """Read ``train`` and ``val``; random crops reach an eighth of the height, and colour images are mirrored.

    Classes are 0 to K − 1; their names are ``names`` (K,) where a file has them, else the numbers.

    Raises:
        InputError: for a file that is missing, damaged or made otherwise, or when the two do not belong together.
    """
    train, val = _read(options.train, options.max_gb), _read(options.val, options.max_gb)
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
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= count:
            raise InputError(
                f"labels in {path} range from {low} to {high}{_perhaps(labels)}; expected 0 to {count - 1}"
                + (f", for the {count} classes in names" if names else ", as in the training file")
            )
    if options.classes is not None and options.classes > count:
        raise InputError(f"classes is {options.classes} and the data has {count}; expected at most {count}")
    kept = options.classes or count
    present = np.unique(train[1][train[1] < kept])
    if len(present) < kept:  # a label may be huge: nothing is made that has a place for each below it
        absent = np.setdiff1d(np.arange(min(kept, len(present) + 5)), present)[:5]
        more = kept - len(present) - len(absent)
        raise InputError(
            f"labels in {options.train} do not include {', '.join(map(str, absent))}"
            + (f" and {more} more" if more else "")
            + f"; expected images of every class from 0 to {kept - 1}{_perhaps(train[1])}"
        )
    names = (names or [str(label) for label in range(count)])[:kept]
    train, val = _first(train, kept), _first(val, kept)
    if len(val[1]) == 0:
        raise InputError(f"{options.val} holds no image of the first {kept} classes; expected at least one")
    colour, height = train[0].shape[1] == 3, train[0].shape[2]
    if options.padding is not None and options.padding > min(train[0].shape[2:]):
        raise InputError(f"padding is {options.padding} and images are {_size(train[0])}; expected at most their size")
    return tensor_data(
        "arrays",
        names,
        _tensors(train),
        _tensors(val),
        padding=max(1, height // 8) if options.padding is None else options.padding,
        flip=colour if options.flip is None else options.flip,
        options=options,
    )


def _read(given: str, max_gb: float | None) -> _Part:
    """(images (N, channels, H, W), labels (N,), names or None) of one file, read once it is known to fit."""
    try:
        with NpzFile(home_path(given)) as archive:
            missing = [key for key in ("images", "labels") if key not in archive.names]
            if missing:
                raise InputError(f"{given} has no {' and no '.join(missing)}, only {handful(archive.names)}; {_LAYOUT}")
            wanted: tuple[str, ...] = ("images", "labels", "names")
            headers = {key: archive.header(key) for key in wanted if key in archive.names}
            _check_headers(given, headers)
            for key, header in headers.items():
                if reason := too_large(header, max_gb):
                    raise InputError(f"{key} in {given} would {reason}")
            images, labels = archive.read("images"), archive.read("labels")
            names = _names(given, archive.read("names")) if "names" in headers else None
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {given}: {error.strerror or error}; {_LAYOUT}") from None
    except ValueError as error:
        raise InputError(f"{given} is not an npz file of plain arrays, or damaged ({error}); {_LAYOUT}") from None
    images = images[..., None] if images.ndim == 3 else images
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels, names


def _check_headers(given: str, headers: dict[str, Header]) -> None:
    images, labels, names = headers["images"], headers["labels"], headers.get("names")
    shape = (*images.shape, 1) if len(images.shape) == 3 else images.shape
    if images.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape:
        raise InputError(f"images in {given} are {images.dtype} {shape}; {_LAYOUT}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != shape[:1]:
        raise InputError(f"labels in {given} are {labels.dtype} {labels.shape} for {shape[0]} images; {_LAYOUT}")
    if names is not None and (names.dtype.kind not in "USiu" or len(names.shape) != 1 or names.shape[0] > shape[0]):
        raise InputError(
            f"names in {given} are {names.dtype} {names.shape} for {shape[0]} images; expected (K,) texts, one for "
            "each class"
        )


def _names(given: str, found: NDArray[Any]) -> list[str]:
    try:
        found = np.char.decode(found, "utf-8") if found.dtype.kind == "S" else found
        names = [name_of(str(name)) for name in found]
    except (UnicodeError, SystemError):  # NumPy takes any number for a character
        raise InputError(f"names in {given} are no text; expected (K,) texts, one for each class") from None
    if len(set(names)) != len(names):
        raise InputError(
            f"names in {given} holds a name twice: {handful(sorted(names))}; expected {len(names)} different"
        )
    return names


def _perhaps(labels: NDArray[Any]) -> str:
    """What the largest label may have been."""
    signed = labels.dtype.kind == "i" and int(labels.max()) not in (2**8 - 1, 2**16 - 1, 2**32 - 1)
    return "" if signed or int(labels.max()) + 1 not in (2**8, 2**16, 2**32, 2**64) else " (the largest may be a −1)"


def _first(part: _Part, classes: int) -> _Part:
    images, labels, names = part
    keep = labels < classes
    return (images, labels, names) if keep.all() else (images[keep], labels[keep], names)


def _tensors(part: _Part) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(part[0]), torch.from_numpy(part[1].astype(np.int64))


def _size(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[2]}×{images.shape[3]} with {images.shape[1]} channels"
