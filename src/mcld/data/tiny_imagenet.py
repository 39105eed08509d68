"""Tiny-ImageNet (Le & Yang 2015) in the layout of the official archive."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mcld.data._classes import handful
from mcld.data._types import DataSet
from mcld.data.cache import cache_dir, listing_key
from mcld.data.download import Archive, locate
from mcld.data.folder import list_images
from mcld.data.imagenet import class_names
from mcld.data.images import check_files, in_threads, read_image, sort_out
from mcld.data.listing import Listing, select
from mcld.data.memory import tensor_data
from mcld.data.options import DataOptions, Pixels
from mcld.errors import InputError
from mcld.files import open_regular, read_text, replacing
from mcld.options import File
from mcld.registry import register_data

_ARCHIVE = Archive(
    "Tiny-ImageNet",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
    "tiny-imagenet-200",
    "wnids.txt, words.txt, train/WNID/images/*.JPEG, val/val_annotations.txt and val/images/*.JPEG",
)


@dataclass(frozen=True)
class TinyImageNet(DataOptions):
    """Tiny-ImageNet.

    Attributes:
        path: the folder that holds ``tiny-imagenet-200``; by default a folder of the user's cache.
        download: fetch it when it is not there.
        image_size: resize to so many pixels (32 for transfer); by default the files' own 64.
    """

    path: File | None = None
    download: bool = True
    image_size: Pixels | None = None


@register_data("tiny_imagenet", "110,000 photos, 64×64, 200 classes", needs="downloaded")
def load(options: TinyImageNet) -> DataSet:
    """All images in memory: 64×64 or resized, padding an eighth and flip, statistics of the training images.

    Classes are in the order of their sorted WordNet ids, as in networks trained from class folders, and named after
    words.txt. Grey files become colour. Decoded images are kept in the user's cache folder for the next start.

    Raises:
        InputError: when files are missing or damaged, the annotations do not fit, or images have another size.
    """
    folder = locate(_ARCHIVE, options.path, options.download)
    needed = ("wnids.txt", "train", "val/val_annotations.txt", "val/images")
    absent = [name for name in needed if not (folder / name).exists()]
    if absent:
        raise InputError(f"{folder} lacks {', '.join(absent)}; expected {_ARCHIVE.layout}")
    classes = sorted({line.strip() for line in _lines(folder / "wnids.txt") if line.strip()})
    if not classes:
        raise InputError(f"{folder / 'wnids.txt'} is empty; expected one WordNet id per line")
    notes: tuple[str, ...] = ()
    parts = []
    for listing in (_train(folder, classes), _val(folder, classes)):
        check = check_files(str(folder), listing.files)
        rows, found = sort_out(str(listing.folder), listing.files, check.bad, check.several)
        kept, notes = select(listing, rows), notes + found
        parts.append((_pixels(folder, kept.files, options.image_size), torch.tensor(kept.labels)))
    sizes = {part[0].shape[2] for part in parts}
    if len(sizes) > 1:
        raise InputError(
            f"training images in {folder} are {parts[0][0].shape[2]} pixels and validation images "
            f"{parts[1][0].shape[2]}; expected 64 in both, or set data.image_size"
        )
    words = folder / "words.txt"
    listing = Listing(folder, classes, [], [])
    return tensor_data(
        "tiny_imagenet",
        class_names(listing, words if words.is_file() else None),
        parts[0],
        parts[1],
        padding=max(1, parts[0][0].shape[2] // 8),
        flip=True,
        options=options,
        notes=notes,
    )


def _train(folder: Path, classes: list[str]) -> Listing:
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        where = f"train/{name}/images"
        own = list_images(folder / where)
        if not own:
            raise InputError(f"{folder / where} holds no image; expected {_ARCHIVE.layout}")
        files += [f"{where}/{file}" for file in own]
        labels += [label] * len(own)
    return Listing(folder, classes, files, labels)


def _val(folder: Path, classes: list[str]) -> Listing:
    place = {name: label for label, name in enumerate(classes)}
    path = folder / "val/val_annotations.txt"
    found: dict[str, int] = {}
    for number, line in enumerate(_lines(path), 1):
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in place:
            raise InputError(
                f"line {number} of {path} is {line[:60]!r}; expected an image file, a tab and an id of wnids.txt"
            )
        found[f"val/images/{fields[0]}"] = place[fields[1]]
    present = {f"val/images/{file}" for file in list_images(folder / "val/images")}
    missing, extra = sorted(found.keys() - present), sorted(present - found.keys())
    if missing or extra or not found:
        parts = [f"named there and not present: {handful(missing)}"] if missing else []
        parts += [f"present and not named there: {handful(extra)}"] if extra else []
        raise InputError(
            f"{path} and {folder / 'val/images'} do not fit; {'; '.join(parts) or 'both are empty'}; "
            "expected one line for each image"
        )
    files = sorted(found)
    return Listing(folder, classes, files, [found[file] for file in files])


def _lines(path: Path) -> list[str]:
    return read_text(path).splitlines()


def _pixels(folder: Path, files: list[str], size: int | None) -> torch.Tensor:
    """All images (N, 3, size, size) uint8, from the cache where they are there."""
    key = listing_key(str(folder), files, "pixels", size, 2)
    path = cache_dir() / "pixels" / f"{key[:32]}.npy"
    try:
        with open_regular(path) as file:
            stored = np.load(file, allow_pickle=False)
            digest = file.read()
        whole = stored.dtype == np.uint8 and stored.ndim == 4 and len(stored) == len(files)
        if whole and digest == hashlib.sha256(stored.data).digest():
            return torch.from_numpy(stored)
    except (OSError, ValueError, EOFError):
        pass
    edge = size or _decode(folder, files[0], None).shape[1]
    images = np.empty((len(files), 3, edge, edge), dtype=np.uint8)

    def fill(row: int) -> None:
        image = _decode(folder, files[row], size)
        if image.shape != images.shape[1:]:
            raise InputError(
                f"{folder / files[row]} is {image.shape[1]}×{image.shape[2]} and {files[0]} {edge} pixels; "
                "expected square images of one size (64), or set data.image_size"
            )
        images[row] = image

    in_threads(fill, range(len(files)))
    _keep(path, images)
    return torch.from_numpy(images)


def _decode(folder: Path, file: str, size: int | None) -> NDArray[np.uint8]:
    """One image (3, H, W); with a size: its short side resized to it, and the central square."""
    from torchvision.transforms.v2 import functional as V

    image = read_image(str(folder / file), "RGB")
    if size is not None and image.size != (size, size):
        image = V.center_crop(V.resize(image, [size]), [size])
    return np.asarray(image).transpose(2, 0, 1)


def _keep(path: Path, images: NDArray[np.uint8]) -> None:
    """Store decoded images for the next start; a full or read-only cache is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.save(file, images)
            file.write(hashlib.sha256(images.data).digest())
    except OSError:
        pass
