"""A user's own image files: one sub-folder per class."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mcld.data._classes import handful
from mcld.data._types import DataInfo, DataSet
from mcld.data.decoded import decoded_images
from mcld.data.files import FileSplit, file_stats
from mcld.data.formats import is_image, suffix_of, suffixes
from mcld.data.images import Reading, check_files, sort_out
from mcld.data.options import DataOptions, Megapixels, Pixels
from mcld.data.pixels import Depth, Peak, check_colour, depth_of
from mcld.data.views import SeedViews
from mcld.errors import InputError
from mcld.files import home_path
from mcld.options import MISSING, File
from mcld.registry import register_data
from mcld.text import name_of

LAYOUT = "expected train/CLASS/IMAGE and val/CLASS/IMAGE (or valid/, validation/, dev/)"
_TRAIN, _VAL, _TEST = ("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing")
# What systems and tools leave beside files, in small letters; like hidden files they are passed over without a word.
_JUNK = frozenset(
    (
        *("__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin"),
        *("system volume information", "lost+found"),
    )
)


@dataclass(frozen=True)
class Listing:
    """The image files of one split.

    Attributes:
        folder: the split's folder.
        classes: names of its sub-folders, sorted.
        files: paths relative to the folder, sorted within each class.
        labels: positions in ``classes``, one per file.
        notes: lines for the user: what is in the folder and was left out.
    """

    folder: Path
    classes: list[str]
    files: list[str]
    labels: list[int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folder(DataOptions):
    """Your own images: ``train/`` and ``val/``, each with one sub-folder per class.

    Attributes:
        path: the folder that holds them.
        val: the sub-folder to validate on; by default the first there is of ``val``, ``valid``, ``validation`` and
            ``dev``, and ``test`` only where there is none of them; large or small letters are the same.
        image_size: pixels; by default the median short side of the training images, rounded down to a multiple of 32,
            at most 224.
        scale: the smallest share of an image's area that a random crop keeps. ImageNet recipes use 0.08; 0.35 is
            milder, for sets of thousands of images.
        cache: keep the decoded images in the user's cache folder: ``on``, ``off``, or ``auto``: where there is room on
            the disk and in memory.
        bits: of grey images with more than 8 bits: 8, 10, 12, 14 or 16; by default what the largest value needs.
        max_megapixels: refuse larger images (decompression bombs), in millions of pixels.
    """

    path: File = MISSING
    val: str | None = None
    image_size: Pixels | None = None
    scale: float = 0.35
    cache: str = "auto"
    bits: int | None = None
    max_megapixels: Megapixels = 178


@register_data("folder", "image files, one sub-folder per class")
def load(options: Folder) -> DataSet:
    """Image files of any size; the size of a view follows from the data, as do grey or colour, and the statistics.

    Every file is decoded once at the first start, and the outcome is remembered. A few that cannot be read are skipped
    and noted; more than 1% of a split is refused. Training images are shown as random resized crops, mirrored half of
    the time, validation images as the central part: the short side resized to size · 256/224, then a central crop.

    Raises:
        InputError: when the layout is another, a class is empty or in one split only, or too many images are damaged.
    """
    root = find_root(options.path)
    *parts, notes = find_splits(root, options.val)
    checks = [check_files(str(part.folder), part.files, options.max_megapixels) for part in parts]
    kept = []
    for part, check in zip(parts, checks, strict=True):
        rows, found = sort_out(str(part.folder), part.files, check.bad, check.several)
        notes += part.notes + found
        kept.append(select(part, rows))
    depth, found = _depth(root, Peak.largest(check.peak for check in checks), options.bits)
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
        parts[0].classes,
        kept[0],
        kept[1],
        (checks[0].content, checks[1].content),
        views,
        options.cache,
        Reading(depth, options.max_megapixels),
        notes=notes + found,
    )


def _depth(root: Path, peak: Peak, bits: int | None) -> tuple[Depth | None, tuple[str, ...]]:
    """How images with more than 8 bits are scaled, all alike, and what to say of it; None where there are none."""
    depth = depth_of(peak, bits)
    check_colour(peak, str(root), bits)
    notes: tuple[str, ...] = ()
    if peak.integer:
        notes += (f"{root}: grey values reach {peak.integer:,} and are taken for {depth.bits} bits (data.bits)",)
    if peak.real:
        notes += (f"{root}: floats reach {peak.real:g} and are taken for values from 0 to {1 if depth.unit else 255}",)
    return (depth if notes else None), notes


def find_root(given: str) -> Path:
    """The folder at a path.

    Raises:
        InputError: when there is none.
    """
    root = home_path(given)
    if not root.is_dir():
        raise InputError(
            f"{given} is {'a file' if root.exists() else 'not there'}; expected a folder with {LAYOUT[9:]}"
        )
    return root


def find_splits(root: Path, val: str | None, *, test: bool = True) -> tuple[Listing, Listing, tuple[str, ...]]:
    """The training and the validation files below a folder, and notes for the user.

    Args:
        root: the folder that holds the splits.
        val: name of the validation folder; None for the usual names.
        test: whether test data may validate where there is no validation folder.

    Raises:
        InputError: when a split is missing, a class is empty, or the splits' classes differ.
    """
    train, vals = named(root, _TRAIN), named(root, (val,) if val else _VAL)
    notes: tuple[str, ...] = ()
    if not vals and val is None and test and (vals := named(root, _TEST)):
        notes += (
            f"{root} has no validation folder ({', '.join(_VAL)}): its test images ({vals[0].name}) validate here, so "
            "figures on them are no test results; data.val=NAME takes another folder",
        )
    if not train or not vals:
        raise InputError(
            _no_splits(root, LAYOUT if val is None else f"expected train/CLASS/IMAGE and {val}/CLASS/IMAGE")
        )
    for found in (train, vals):
        if len(found) > 1:
            others = ", ".join(repr(folder.name) for folder in found[1:])
            notes += (f"{root}: {found[0].name!r} is read, and {others} is not",)
    if train[0].samefile(vals[0]):
        notes += (f"{root}: validation is on the training images ({vals[0].name})",)
    first, second = list_classes(train[0]), list_classes(vals[0])
    if first.classes != second.classes:
        missing = sorted(set(first.classes) - set(second.classes))
        extra = sorted(set(second.classes) - set(first.classes))
        here, there = train[0].name, vals[0].name
        parts = [f"only in {here}: {handful(missing)}"] if missing else []
        parts += [f"only in {there}: {handful(extra)}"] if extra else []
        raise InputError(f"the classes of {here} and {there} in {root} differ; {'; '.join(parts)}; expected the same")
    return first, second, notes


def named(root: Path, names: Sequence[str]) -> list[Path]:
    """The folders with one of some names, in the names' order: as it is spelt, then in other letters."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
    spelt = ((name, folder) for name in names for folder in folders if folder.name.lower() == name.lower())
    found = [folder for _, folder in sorted(spelt, key=lambda pair: (names.index(pair[0]), pair[1].name != pair[0]))]
    return found or [root / name for name in names if (root / name).is_dir()]


def _no_splits(root: Path, wanted: str) -> str:
    """What is there instead of the splits, and where they may be."""
    present = sorted(entry.name for entry in root.iterdir())
    hint = ""
    if root.name.lower() in (*_TRAIN, *_VAL, *_TEST):
        hint = f"; is it data.path={root.parent}?"
    elif below := [folder for folder in present if (root / folder).is_dir() and named(root / folder, _TRAIN)]:
        hint = f"; is it data.path={root / below[0]}?"
    return f"{root} holds {handful(present) if present else 'nothing'}; {wanted}{hint}"


def list_classes(folder: Path) -> Listing:
    """The image files below each sub-folder of a split's folder.

    Sub-folders whose names differ only in how their letters are composed are one class.

    Raises:
        InputError: when there are no sub-folders, one holds no image, or the classes seem to lie a level deeper.
    """
    folders: dict[str, list[str]] = {}
    beside: list[str] = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not is_junk(entry.name):
            folders.setdefault(name_of(entry.name), []).append(entry.name)
        elif not is_junk(entry.name):
            beside.append(entry.name)
    classes = sorted(folders)
    if not classes:
        raise InputError(f"{folder} has no sub-folders; expected one per class, {folder.name}/CLASS/IMAGE")
    files: list[str] = []
    labels: list[int] = []
    others: list[str] = []
    notes: tuple[str, ...] = ()
    for label, name in enumerate(classes):
        own: list[str] = []
        for place in sorted(folders[name]):
            images, rest = find_images(folder / place)
            own += [f"{place}/{file}" for file in images]
            others += [f"{place}/{file}" for file in rest]
        if len(folders[name]) > 1:
            notes += (f"{folder}: {len(folders[name])} folders are all called {name!r} and are one class",)
        if not own:
            rest = [other for other in others if other.split("/")[0] in folders[name]]
            only = f", only {_kinds(rest)}" if rest else ""
            raise InputError(
                f"the class folder {folder / folders[name][0]} holds no image{only}; expected .jpg, .png or other "
                "image files, or no such folder"
            )
        files += own
        labels += [label] * len(own)
    deeper = all(file.count("/") > 1 for file in files)
    if deeper and len(classes) == 1:
        inner = sorted({file.split("/")[1] for file in files})
        raise InputError(
            f"{folder} holds one folder, {classes[0]!r}, and the images lie in its sub-folders ({handful(inner)}); "
            f"expected {folder.name}/CLASS/IMAGE: move them one level up"
        )
    if deeper:
        notes += (f"{folder}: all images lie a level deeper, as in {files[0]}; a class is the upper folder",)
    if others:
        notes += (f"{folder}: left out {_kinds(others)}",)
    if beside:
        notes += (f"{folder}: left out what lies beside the class folders: {handful(beside)}",)
    return Listing(folder, classes, files, labels, notes)


def list_images(folder: Path) -> list[str]:
    """The images of :func:`find_images`."""
    return find_images(folder)[0]


def find_images(folder: Path) -> tuple[list[str], list[str]]:
    """Paths of the image files anywhere below a folder, and of the other files; relative to it, sorted.

    A file is an image by its ending; where the ending says nothing, by how it begins. What is hidden, and what systems
    and tools leave behind, is in neither.

    Raises:
        InputError: when a folder cannot be read, or a link leads back to a folder that it lies in: its images would be
            there again and again.
    """

    def fail(error: OSError) -> None:
        raise InputError(f"cannot read {error.filename}: {error.strerror or error}") from None

    images: list[str] = []
    others: list[str] = []
    for where, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        folders[:] = [name for name in folders if not is_junk(name)]
        for link in (Path(where, name).absolute() for name in folders):
            if link.is_symlink() and any(_is_within(parent, link) for parent in link.parents):
                raise InputError(f"{link} is a link to {os.path.realpath(link)}, which it lies in; remove the link")
        below = os.path.relpath(where, folder).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        for name in names:
            if not is_junk(name):
                known = suffix_of(name) in suffixes() or is_image(os.path.join(where, name))  # noqa: PTH118
                (images if known else others).append(prefix + name)
    return sorted(images), sorted(others)


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or something that systems and tools leave behind."""
    return name.startswith(".") or name.lower() in _JUNK


def _kinds(files: list[str]) -> str:
    """Files that are no images, in words: how many of each ending, and the first of them."""
    counts = Counter(suffix_of(file) or "without an ending" for file in files)
    shown = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(5))
    hint = "; .heic needs: pip install pillow-heif" if counts.keys() & {".heic", ".heif", ".hif"} else ""
    noun = "file that is no image" if len(files) == 1 else "files that are no images"
    return f"{len(files):,} {noun} mcld reads ({shown}), such as {files[0]}{hint}"


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
    reading: Reading,
    *,
    stats: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    notes: tuple[str, ...] = (),
) -> DataSet:
    """A data set of two splits of files; statistics are those of the training images unless given."""
    splits = []
    for part, shown, digest in ((train, views, content[0]), (val, replace(views, random=False), content[1])):
        read = replace(reading, enough=shown.enough) if shown.random else reading
        decoded, found = decoded_images(cache, str(part.folder), part.files, views.mode, read)
        notes += found
        files, labels = tuple(part.files), torch.tensor(part.labels)
        splits.append(FileSplit(str(part.folder), files, labels, shown, digest, decoded, read))
    mean, std = stats or file_stats(splits[0])
    channels = 3 if views.mode == "RGB" else 1
    plain = replace(views.plain, depth=reading.depth)
    return DataSet(
        info=DataInfo(name, tuple(classes), channels, (views.size, views.size), mean, std, plain),
        train=splits[0],
        val=splits[1],
        notes=notes,
    )
