"""ImageNet (ILSVRC 2012; Russakovsky et al. 2015), or a part of it, in folders by synset."""

import re
from dataclasses import dataclass
from pathlib import Path

from mcld.data._types import DataSet
from mcld.data.cache import listing_key
from mcld.data.folder import find_root, find_splits, list_images, named
from mcld.data.images import Reading, check_files, check_there, sort_out
from mcld.data.listing import Listing, file_data, select
from mcld.data.options import DataOptions, Megapixels, Pixels
from mcld.data.views import SeedViews
from mcld.errors import InputError
from mcld.files import read_text
from mcld.options import MISSING, File
from mcld.registry import register_data

# The constants that every published ImageNet network of torchvision and timm expects.
STATS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_LAYOUT = "expected train/SYNSET/*.JPEG and val/SYNSET/*.JPEG, with synsets such as n01440764"
_NAME_FILES = ("LOC_synset_mapping.txt", "words.txt", "synset_words.txt")


@dataclass(frozen=True)
class ImageNet(DataOptions):
    """ImageNet (ILSVRC 2012), or a part of it: ``train/SYNSET/*.JPEG`` and ``val/SYNSET/*.JPEG``.

    Attributes:
        path: the folder that holds ``train`` and ``val``.
        image_size: pixels; by default 224.
        scale: the smallest share of an image's area that a random crop keeps.
        cache: keep the decoded images in the user's cache folder: ``on``, ``off``, or ``auto``: where there is room on
            the disk and in memory.
        check: decode every image once before training, which takes minutes to hours; the result is remembered.
        max_megapixels: refuse larger images (decompression bombs), in millions of pixels.
    """

    path: File = MISSING
    image_size: Pixels | None = None
    scale: float = 0.08
    cache: str = "auto"
    check: bool = False
    max_megapixels: Megapixels = 178


@register_data("imagenet", "ILSVRC folders by synset, up to 1,000 classes")
def load(options: ImageNet) -> DataSet:
    """Random resized crops and flips to train; resize 256 and central crop 224 (in that ratio) to validate.

    Classes are in the order of their synsets, and named after ``LOC_synset_mapping.txt``, ``words.txt`` or
    ``synset_words.txt`` where one of them lies beside ``train`` (or one to three folders further up), else by synset.

    Raises:
        InputError: when the layout is another, a class is empty or in one split only, or (with ``check``) too many
            images are damaged.
    """
    root = find_root(options.path)
    for folder in named(root, ("val", "valid", "validation")):
        _not_flat(folder)
    train, val, notes = find_splits(root, None, test=False)
    odd = [name for name in train.classes if not re.fullmatch(r"n\d{8}", name)]
    if odd:
        raise InputError(
            f"{root / 'train'} has folders that are no synset, such as {odd[0]!r}; {_LAYOUT}, or data=folder"
        )
    kept, content = [], []
    for part in (train, val):
        where, digest = str(part.folder), ""
        several: tuple[str, ...] = ()
        if options.check:
            check = check_files(where, part.files, options.max_megapixels)
            bad, digest, several = check.bad, check.content, check.several
        else:
            bad = check_there(where, part.files)
        rows, found = sort_out(where, part.files, bad, several)
        notes += part.notes + found
        kept.append(select(part, rows))
        content.append(digest or listing_key(str(part.folder), part.files))
    names = class_names(train, _names_file(root))
    size = options.image_size or 224
    views = SeedViews(
        size=size,
        resize=round(size * 256 / 224),
        random=options.augment,
        scale=options.scale,
        policy=options.policy,
    )
    return file_data(
        "imagenet",
        names,
        kept[0],
        kept[1],
        (content[0], content[1]),
        views,
        options.cache,
        Reading(megapixels=options.max_megapixels),
        stats=STATS,
        notes=notes,
    )


def class_names(part: Listing, file: Path | None) -> list[str]:
    """The first word or phrase for each synset, with the synset added where two share it.

    Args:
        part: the listing whose classes are synsets.
        file: lines of a synset, a space or tab, and words separated by commas; None for no names.

    Raises:
        InputError: when the file cannot be read as text.
    """
    words: dict[str, str] = {}
    if file is not None:
        for line in read_text(file, expected="lines of a synset and its words").splitlines():
            synset, _, rest = line.strip().replace("\t", " ").partition(" ")
            words[synset] = rest.split(",")[0].strip()
    names = [words.get(synset) or synset for synset in part.classes]
    return [f"{n} ({s})" if names.count(n) > 1 else n for n, s in zip(names, part.classes, strict=True)]


def _names_file(root: Path) -> Path | None:
    folders = [root, *list(root.resolve().parents)[:3]]  # Kaggle keeps it beside ILSVRC/Data/CLS-LOC
    return next((f / name for f in folders for name in _NAME_FILES if (f / name).is_file()), None)


def _not_flat(val: Path) -> None:
    if val.is_dir() and not any(entry.is_dir() for entry in val.iterdir()) and list_images(val):
        raise InputError(
            f"{val} holds images without class folders; {_LAYOUT}: move each image into its synset's folder"
        )
