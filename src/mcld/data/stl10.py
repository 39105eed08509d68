"""STL-10 (Coates, Ng & Lee 2011) in its official binary format."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mcld.data._types import DataSet
from mcld.data.download import Archive, locate
from mcld.data.memory import tensor_data
from mcld.data.options import DataOptions, Pixels
from mcld.errors import InputError
from mcld.files import read_file, read_text
from mcld.options import File
from mcld.registry import register_data

_ARCHIVE = Archive(
    "STL-10",
    "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    "91f7769df0f17e558f3565bffb0c7dfb",
    "stl10_binary",
    "train_X.bin, train_y.bin, test_X.bin, test_y.bin, class_names.txt and fold_indices.txt",
)
_EDGE = 96
_BYTES = 3 * _EDGE * _EDGE
_LIMIT = 2**30  # bytes of a file: the largest official one, of the test images, has 221 MB


@dataclass(frozen=True)
class Stl10(DataOptions):
    """STL-10: its labelled training images and its test images.

    Attributes:
        path: the folder that holds ``stl10_binary``; by default a folder of the user's cache.
        download: fetch it when it is not there.
        image_size: resize to so many pixels (32 for transfer); by default the files' own 96.
        fold: train on one of the ten published folds of 1,000 images, 0 to 9; by default on all 5,000.
    """

    path: File | None = None
    download: bool = True
    image_size: Pixels | None = None
    fold: int | None = None


@register_data("stl10", "13,000 labelled photos, 96×96, 10 classes", needs="downloaded")
def load(options: Stl10) -> DataSet:
    """Labelled training images (all, or one published fold) and test images; padding an eighth and flip.

    Statistics are those of the training images.

    Raises:
        InputError: when files are missing, truncated, or do not fit together, or there is no such fold.
    """
    folder = locate(_ARCHIVE, options.path, options.download)
    needed = ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt"]
    needed += ["fold_indices.txt"] if options.fold is not None else []
    absent = [name for name in needed if not (folder / name).is_file()]
    if absent:
        raise InputError(f"{folder} lacks {', '.join(absent)}; expected {_ARCHIVE.layout}")
    names = [line.strip() for line in read_text(folder / "class_names.txt").splitlines() if line.strip()]
    if not names:
        raise InputError(f"{folder / 'class_names.txt'} is empty; expected one class per line")
    train, labels = _split(folder, "train", len(names))
    if options.fold is not None:
        rows = _fold(folder / "fold_indices.txt", options.fold, len(labels))
        train, labels = train[rows], labels[rows]
    val, val_labels = _split(folder, "test", len(names))
    size = options.image_size or _EDGE
    return tensor_data(
        "stl10",
        names,
        (_resized(train, size), torch.from_numpy(labels)),
        (_resized(val, size), torch.from_numpy(val_labels)),
        padding=max(1, size // 8),
        flip=True,
        options=options,
    )


def _split(folder: Path, name: str, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    pixels, labels = folder / f"{name}_X.bin", folder / f"{name}_y.bin"
    stored, found = _bytes(pixels), _bytes(labels).astype(np.int64)
    if stored.size == 0 or stored.size % _BYTES:
        raise InputError(
            f"{pixels} has {stored.size} bytes; expected a multiple of {_BYTES} (3×96×96 for each image): "
            "it is truncated"
        )
    if stored.size // _BYTES != found.size:
        raise InputError(
            f"{pixels} holds {stored.size // _BYTES} images and {labels} {found.size} labels; expected as many: "
            "one of them is truncated"
        )
    if found.min() < 1 or found.max() > classes:
        raise InputError(
            f"labels in {labels} range from {found.min()} to {found.max()}; expected 1 to {classes}, "
            "as in class_names.txt"
        )
    # Each channel is stored column by column.
    images = stored.reshape(-1, 3, _EDGE, _EDGE).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(images), found - 1


def _fold(path: Path, fold: int, count: int) -> NDArray[np.int64]:
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    if not 0 <= fold < len(lines):
        raise InputError(f"fold is {fold} and {path} has {len(lines)}; expected 0 to {len(lines) - 1}")
    try:
        rows = np.array([int(word) for word in lines[fold].split()], dtype=np.int64)
    except ValueError:
        raise InputError(f"line {fold + 1} of {path} is {lines[fold][:40]!r}; expected numbers") from None
    if rows.min() < 0 or rows.max() >= count:
        raise InputError(f"line {fold + 1} of {path} names image {rows.max()}; expected 0 to {count - 1}")
    return rows


def _resized(images: NDArray[np.uint8], size: int) -> torch.Tensor:
    """(N, 3, size, size), with antialiasing."""
    from torchvision.transforms.v2 import functional as V

    whole = torch.from_numpy(images)
    if size == _EDGE:
        return whole
    return torch.cat([V.resize(part, [size, size], antialias=True) for part in torch.split(whole, 500)])


def _bytes(path: Path) -> NDArray[np.uint8]:
    try:
        return np.frombuffer(read_file(path, _LIMIT), dtype=np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
