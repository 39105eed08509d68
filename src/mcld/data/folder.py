"""A user's own image files: one sub-folder per class."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mcld.configs.data import Folder
from mcld.data._classes import handful
from mcld.data._types import DataInfo, DataSet
from mcld.data.decoded import decoded_images
from mcld.data.files import FileSplit, file_stats
from mcld.data.images import SUFFIXES, check_files, sort_out
from mcld.data.views import SeedViews
from mcld.errors import InputError

LAYOUT = "expected train/CLASS/IMAGE and val/CLASS/IMAGE (or validation/, or test/)"
_VAL_NAMES = ("val", "validation", "test")


@dataclass(frozen=True)
class Listing:
    """The image files of one split.

    Attributes:
        folder: the split's folder.
        classes: names of its sub-folders, sorted.
        files: paths relative to the folder, sorted within each class.
        labels: positions in ``classes``, one per file.
    """

    folder: Path
    classes: list[str]
    files: list[str]
    labels: list[int]


def load(options: Folder) -> DataSet:
    """Image files of any size; the size of a view follows from the data, as do grey or colour, and the statistics.

    Every file is decoded once at the first start, and the outcome is remembered. A few that cannot be read are skipped
    and noted; more than 1% of a split is refused. Training images are shown as random resized crops, mirrored half of
    the time, validation images as the central part: the short side resized to size · 256/224, then a central crop.

    Raises:
        InputError: when the layout is another, a class is empty or in one split only, or too many images are damaged.
    """
    root = find_root(options.path)
    train, val = find_splits(root, options.val)
    checks = [check_files(str(part.folder), part.files) for part in (train, val)]
    notes: tuple[str, ...] = ()
    kept = []
    for part, check in zip((train, val), checks, strict=True):
        rows, found = sort_out(str(part.folder), part.files, check.bad)
        notes += found
        kept.append(select(part, rows))
    size = options.image_size or natural_size(checks[0].short_side)
    views = SeedViews(
        size=size,
        resize=round(size * 256 / 224),
        mode="L" if all(check.grey for check in checks) else "RGB",
        random=options.augment,
        scale=options.scale,
        policy=options.policy,
    )
    return file_data(
        "folder",
        train.classes,
        kept[0],
        kept[1],
        (checks[0].content, checks[1].content),
        views,
        options.cache,
        notes=notes,
    )


def find_root(given: str) -> Path:
    """The folder at a path.

    Raises:
        InputError: when there is none.
    """
    root = Path(given).expanduser()
    if not root.is_dir():
        raise InputError(
            f"{given} is {'a file' if root.exists() else 'not there'}; expected a folder with {LAYOUT[9:]}"
        )
    return root


def find_splits(root: Path, val: str | None) -> tuple[Listing, Listing]:
    """The training and the validation files below a folder.

    Args:
        root: the folder that holds the splits.
        val: name of the validation folder; None for the first there is of val, validation and test.

    Raises:
        InputError: when a split is missing, a class is empty, or the splits' classes differ.
    """
    present = sorted(entry.name for entry in root.iterdir())
    found = handful(present) if present else "nothing"
    names = [val] if val else [name for name in _VAL_NAMES if (root / name).is_dir()]
    if not (root / "train").is_dir() or not names or not (root / names[0]).is_dir():
        wanted = LAYOUT if val is None else f"expected train/CLASS/IMAGE and {val}/CLASS/IMAGE"
        raise InputError(f"{root} holds {found}; {wanted}")
    train, test = list_classes(root / "train"), list_classes(root / names[0])
    if train.classes != test.classes:
        missing = sorted(set(train.classes) - set(test.classes))
        extra = sorted(set(test.classes) - set(train.classes))
        parts = [f"only in train: {handful(missing)}"] if missing else []
        parts += [f"only in {names[0]}: {handful(extra)}"] if extra else []
        raise InputError(f"the classes of train and {names[0]} in {root} differ; {'; '.join(parts)}; expected the same")
    return train, test


def list_classes(folder: Path) -> Listing:
    """The image files below each sub-folder of a split's folder.

    Raises:
        InputError: when there are no sub-folders, or one holds no image.
    """
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise InputError(f"{folder} has no sub-folders; expected one per class, {folder.name}/CLASS/IMAGE")
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        own = list_images(folder / name)
        if not own:
            raise InputError(
                f"the class folder {folder / name} holds no image; expected files ending in {', '.join(SUFFIXES)}, "
                "or no such folder"
            )
        files += [f"{name}/{file}" for file in own]
        labels += [label] * len(own)
    return Listing(folder, classes, files, labels)


def list_images(folder: Path) -> list[str]:
    """Paths of the image files anywhere below a folder, relative to it, sorted; hidden files are left out.

    Raises:
        InputError: when a link leads back to a folder that it lies in: its images would be there again and again.
    """
    found = []
    for where, folders, names in os.walk(folder, followlinks=True):
        for link in (Path(where, name).absolute() for name in folders):
            if link.is_symlink() and any(_is_within(parent, link) for parent in link.parents):
                raise InputError(f"{link} is a link to {os.path.realpath(link)}, which it lies in; remove the link")
        below = os.path.relpath(where, folder).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        found += [prefix + name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    return sorted(found)


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or below it, all links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def select(part: Listing, rows: list[int]) -> Listing:
    """The listing with only the files at some positions.

    Raises:
        InputError: when a class is left without any.
    """
    if len(rows) == len(part.files):
        return part
    left = {part.labels[row] for row in rows}
    for label, name in enumerate(part.classes):
        if label not in left:
            raise InputError(f"no image of class {name!r} in {part.folder} can be read; expected at least one")
    return replace(part, files=[part.files[row] for row in rows], labels=[part.labels[row] for row in rows])


def natural_size(short_side: int) -> int:
    """The size of views for images with this median short side: a multiple of 32 up to 224, or the side if smaller."""
    return min(224, short_side // 32 * 32) if short_side >= 32 else max(1, short_side)


def file_data(
    name: str,
    classes: list[str],
    train: Listing,
    val: Listing,
    content: tuple[str, str],
    views: SeedViews,
    cache: str,
    *,
    stats: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    notes: tuple[str, ...] = (),
) -> DataSet:
    """A data set of two splits of files; statistics are those of the training images unless given."""
    splits = []
    for part, shown, digest in ((train, views, content[0]), (val, replace(views, random=False), content[1])):
        decoded, found = decoded_images(cache, str(part.folder), part.files, views.mode)
        notes += found
        splits.append(FileSplit(str(part.folder), tuple(part.files), torch.tensor(part.labels), shown, digest, decoded))
    mean, std = stats or file_stats(splits[0])
    channels = 3 if views.mode == "RGB" else 1
    return DataSet(
        info=DataInfo(name, tuple(classes), channels, (views.size, views.size), mean, std),
        train=splits[0],
        val=splits[1],
        notes=notes,
    )
