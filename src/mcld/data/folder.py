"""A user's own image files: one sub-folder per class."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from mcld.data._classes import handful
from mcld.data._types import DataSet
from mcld.data.formats import is_image, suffix_of, suffixes
from mcld.data.holdout import fraction_of
from mcld.data.listing import Listing, listed_data
from mcld.data.options import FileOptions
from mcld.errors import InputError
from mcld.files import home_path
from mcld.options import MISSING, File, one_of
from mcld.registry import register_data
from mcld.text import name_of

LAYOUT = "expected train/CLASS/IMAGE and val/CLASS/IMAGE (or valid/, validation/, dev/)"
TRAIN, VAL, TEST = ("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing")
# What systems and tools leave beside files, in small letters; like hidden files they are passed over without a word.
_JUNK = frozenset(
    (
        *("__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin"),
        *("system volume information", "lost+found"),
    )
)


@dataclass(frozen=True)
class Folder(FileOptions):
    """Your own images: one sub-folder per class, in ``train/`` and ``val/``, or without a split, with ``data.val=0.1``.

    Attributes:
        path: the folder that holds them.
        val: the sub-folder to validate on; by default the first there is of ``val``, ``valid``, ``validation`` and
            ``dev``, and ``test`` only where there is none of them; large or small letters are the same. A number is the
            share of the training images to hold out instead, such as 0.1: the same share of each class, equal files
            together; the run keeps it in ``split.csv``. 1 takes all images, to evaluate.
        classes: the names of all classes in their order, where the folder holds some of them only; by default what it
            holds, in the order of their names.
        nested: of class folders whose images all lie a level deeper: ``upper`` takes the upper folder for the class,
            ``lower`` each inner one (``UPPER/LOWER``); by default that is asked.
    """

    path: File = MISSING
    classes: list[str] | None = None
    nested: Annotated[str, one_of("upper", "lower")] | None = None


@register_data("folder", "image files, one sub-folder per class")
def load(options: Folder) -> DataSet:
    """Image files of any size; the size of a view follows from the data, as do grey or colour, and the statistics.

    See :func:`mcld.data.listing.listed_data`.

    Raises:
        InputError: when the layout is another, a class is empty or in one split only, or too many images are damaged.
    """
    root, share = find_root(options.path), fraction_of(options.val)
    if share is None and options.split is None:
        *parts, notes = find_splits(root, options.val, nested=options.nested)
    else:
        *parts, notes = find_whole(root, options.nested)
    parts = [with_classes(part, options.classes) for part in parts] if options.classes else parts
    return listed_data("folder", root, options, parts, notes)


def with_classes(part: Listing, classes: Sequence[str]) -> Listing:
    """The listing with its files' labels among these classes, of which it may lack some.

    Raises:
        InputError: when it has another.
    """
    names = [name_of(name) for name in classes]
    if unknown := [name for name in part.classes if name not in names]:
        raise InputError(
            f"{part.folder} has folders that are none of the {len(names)} classes ({handful(names)}): "
            f"{handful(unknown)}; expected CLASS/IMAGE with these"
        )
    return replace(part, classes=names, labels=[names.index(part.classes[label]) for label in part.labels])


def lacks_split(place: Path) -> bool:
    """Whether a folder holds no folder of a split: class folders alone, if anything."""
    return place.is_dir() and not named(place, (*TRAIN, *VAL, *TEST))


def find_npz(place: Path) -> tuple[Path | None, Path | None]:
    """The npz files with the training and the validation images in a folder, by their names."""
    files = {file.name.lower(): file for file in sorted(place.glob("*.[nN][pP][zZ]"))}
    train, val = (
        next((files[f"{name}.npz"] for name in names if f"{name}.npz" in files), None)
        for names in (TRAIN, (*VAL, *TEST))
    )
    return train, val


def find_whole(root: Path, nested: str | None) -> tuple[Listing, tuple[str, ...]]:
    """The images to split, and notes: those of ``train/``, or, where there is none, of the class folders.

    Raises:
        InputError: when there are neither.
    """
    splits = {name: named(root, names) for name, names in (("train", TRAIN), ("val", VAL), ("test", TEST))}
    if not splits["train"]:
        if splits["val"] or splits["test"]:
            raise InputError(
                _no_splits(root, "expected train/CLASS/IMAGE, or class folders alone, to hold a part out of")
            )
        return list_classes(root, nested), ()
    unread = [folder.name for names in (VAL, TEST) for folder in named(root, names)]
    notes = (f"{root}: a part of {splits['train'][0].name!r} validates, and {handful(unread)} is not read",)
    return list_classes(splits["train"][0], nested), notes if unread else ()


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


def find_splits(
    root: Path, val: str | None, *, test: bool = True, nested: str | None = "upper"
) -> tuple[Listing, Listing, tuple[str, ...]]:
    """The training and the validation files below a folder, and notes for the user.

    Args:
        root: the folder that holds the splits.
        val: name of the validation folder; None for the usual names.
        test: whether test data may validate where there is no validation folder.
        nested: see :class:`Folder`.

    Raises:
        InputError: when a split is missing, a class is empty, or the splits' classes differ.
    """
    train, vals = named(root, TRAIN), named(root, (val,) if val else VAL)
    notes: tuple[str, ...] = ()
    if not vals and val is None and test and (vals := named(root, TEST)):
        notes += (
            f"{root} has no validation folder ({', '.join(VAL)}): its test images ({vals[0].name}) validate here, so "
            "figures on them are no test results; data.val=NAME takes another folder",
        )
    if not train or not vals:
        wanted = LAYOUT if val is None else f"expected train/CLASS/IMAGE and {val}/CLASS/IMAGE"
        hold = test and val is None and (bool(train) or (not vals and _is_whole(root)))
        raise InputError(_no_splits(root, wanted, hold_out=hold))
    for found in (train, vals):
        if len(found) > 1:
            others = ", ".join(repr(folder.name) for folder in found[1:])
            notes += (f"{root}: {found[0].name!r} is read, and {others} is not",)
    if train[0].samefile(vals[0]):
        notes += (f"{root}: validation is on the training images ({vals[0].name})",)
    first, second = list_classes(train[0], nested), list_classes(vals[0], nested)
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


def _is_whole(root: Path) -> bool:
    """Whether a folder holds class folders and no split: several folders that hold images themselves."""
    folders = [entry for entry in root.iterdir() if entry.is_dir() and not is_junk(entry.name)]
    return len(folders) > 1 and all(
        any(suffix_of(entry.name) in suffixes() for entry in folder.iterdir()) for folder in folders
    )


def _no_splits(root: Path, wanted: str, *, hold_out: bool = False) -> str:
    """What is there instead of the splits, and where they may be; ``hold_out`` says that one can be made."""
    present = sorted(entry.name for entry in root.iterdir())
    hint = ""
    if root.name.lower() in (*TRAIN, *VAL, *TEST):
        hint = f"; is it data.path={root.parent}?"
    elif below := [folder for folder in present if (root / folder).is_dir() and named(root / folder, TRAIN)]:
        hint = f"; is it data.path={root / below[0]}?"
    make = ", or data.val=0.1 to hold out a tenth of the images for validation" if hold_out else ""
    return f"{root} holds {handful(present) if present else 'nothing'}; {wanted}{make}{hint}"


def list_classes(folder: Path, nested: str | None = "upper") -> Listing:
    """The image files below each sub-folder of a split's folder.

    Sub-folders whose names differ only in how their letters are composed are one class.

    Args:
        folder: that holds them.
        nested: what a class is where all images lie a level deeper: the ``upper`` or each ``lower`` folder; None asks.

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
    if deeper and nested is None and len({file.split("/")[1] for file in files}) > 1:
        raise InputError(
            f"{folder}: all images lie a level deeper, as in {files[0]}: what is a class? Say data.nested=upper "
            f"({classes[0]!r}) or data.nested=lower ({'/'.join(files[0].split('/')[:2])!r})"
        )
    if deeper and nested == "lower":
        inner = [name_of("/".join(file.split("/")[:2])) for file in files]
        classes = sorted(set(inner))
        order = sorted(range(len(files)), key=lambda i: (inner[i], files[i]))
        files, labels = [files[i] for i in order], [classes.index(inner[i]) for i in order]
    elif deeper:
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
