"""A user's own image files, listed with their labels in a CSV file."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcld.data._classes import handful
from mcld.data._types import DataSet
from mcld.data.folder import TEST, TRAIN, VAL
from mcld.data.holdout import fraction_of
from mcld.data.listing import Listing, listed_data
from mcld.data.options import FileOptions
from mcld.errors import InputError
from mcld.files import home_path, read_text
from mcld.options import MISSING, File
from mcld.registry import register_data
from mcld.text import name_of

_IMAGE = ("path", "file", "filename", "filepath", "image", "image_path", "img")
_LABEL = ("label", "class", "category", "target")
_SPLIT = ("split", "set", "subset")
_LARGEST = 2**30


@dataclass(frozen=True)
class Csv(FileOptions):
    """Your own images, listed in a CSV file: a column for the path, one for the label, perhaps one for the split.

    Attributes:
        path: the CSV file, with the names of the columns in its first line; commas or semicolons, tabs in ``.tsv``.
        root: the folder that the images' paths are relative to; by default that of the file.
        image_column: with the path; by default the first there is of ``path``, ``file``, ``filename``, ``filepath``,
            ``image``, ``image_path`` and ``img``.
        label_column: with the class; by default the first of ``label``, ``class``, ``category`` and ``target``.
        split_column: with ``train``, ``val`` or ``test`` (or their usual other names); by default the first of
            ``split``, ``set`` and ``subset``, where there is one. Not read with ``data.val``.
        val: the share of the images to hold out for validation, such as 0.1: the same share of each class, equal files
            together; the run keeps it in ``split.csv``. 1 takes all images, to evaluate.
    """

    path: File = MISSING
    root: File | None = None
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None


@register_data("csv", "image files, listed with their labels in a CSV file")
def load(options: Csv) -> DataSet:
    """Image files as :func:`mcld.data.listing.listed_data` shows them; classes are the labels, sorted.

    Raises:
        InputError: when the file cannot be read, lacks a column, or says two things of an image; when there is no
            split, or too many images are damaged.
    """
    place = home_path(options.path)
    if not place.is_file():
        raise InputError(f"{options.path} is {'a folder' if place.is_dir() else 'not there'}; expected a CSV file")
    root = home_path(options.root) if options.root else place.parent
    if not root.is_dir():
        raise InputError(f"data.root={options.root} is no folder; expected the one that the images' paths begin in")
    rows, has_split, notes = _read(place, options)
    classes = sorted({label for label, _ in rows.values()}, key=_order)

    def listing(sides: Sequence[str] | None) -> Listing:
        chosen = [
            (classes.index(label), path) for path, (label, side) in rows.items() if sides is None or side in sides
        ]
        chosen.sort()
        return Listing(root, classes, [path for _, path in chosen], [label for label, _ in chosen])

    share = fraction_of(options.val)
    if options.val is not None and share is None:
        raise InputError(f"data.val={options.val}; expected the share of the images to validate on, such as 0.1")
    if share is not None or options.split is not None:
        return listed_data("csv", place, options, [listing(None)], notes)
    if not has_split:
        raise InputError(
            f"{place} has no column for the split ({', '.join(_SPLIT)}); expected data.split_column=NAME, or "
            "data.val=0.1 to hold out a tenth of the images for validation"
        )
    train, val = listing(TRAIN), listing(VAL)
    if not val.files:
        val = listing(TEST)
        notes += (f"{place} has no validation images: its test images validate here, so figures are no test results",)
    for part, name in ((train, "train"), (val, "val")):
        if not part.files:
            raise InputError(f"{place} has no row whose split is {name!r}; expected train and val, or data.val=0.1")
    if absent := [name for label, name in enumerate(classes) if label not in set(train.labels)]:
        raise InputError(f"{place} has no training image of {handful(absent)}; expected at least one of each class")
    return listed_data("csv", place, options, [train, val], notes)


def _order(label: str) -> tuple[int, str]:
    """Numbers by size, before words by letter."""
    return (int(label), "") if label.isascii() and label.isdigit() and len(label) < 19 else (2**63, label)


def _read(place: Path, options: Csv) -> tuple[dict[str, tuple[str, str]], bool, tuple[str, ...]]:
    """(for each path its label and its side of the split, is there a split, notes)."""
    text = read_text(place, _LARGEST).removeprefix("\ufeff")
    first = text.partition("\n")[0]
    comma = "\t" if place.suffix.lower() == ".tsv" else ";" if ";" in first and "," not in first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
    rows: dict[str, tuple[str, str]] = {}
    repeated = 0
    try:
        names = [name.strip() for name in next(reader, [])]
        image = _column(place, names, "image_column", options.image_column, _IMAGE)
        label = _column(place, names, "label_column", options.label_column, _LABEL)
        whole = options.val is not None or options.split is not None
        wanted = not whole and (options.split_column or any(name.lower() in _SPLIT for name in names))
        split = _column(place, names, "split_column", options.split_column, _SPLIT) if wanted else None
        for row in reader:
            if not any(row):
                continue
            where = f"{place}, line {reader.line_num}"
            if len(row) != len(names):
                raise InputError(f"{where} has {len(row)} columns; expected {len(names)}, as the first line says")
            path, said = row[image].strip(), (name_of(row[label].strip()), "" if split is None else row[split].strip())
            said = (said[0], said[1].lower())
            if not path or not said[0]:
                raise InputError(f"{where} has no {'path' if not path else 'label'}; expected both in each row")
            if split is not None and said[1] not in (*TRAIN, *VAL, *TEST):
                raise InputError(f"{where}: the split is {row[split]!r}; expected train, val or test")
            if path in rows:
                if rows[path] != said:
                    raise InputError(f"{where}: {path} was {_said(rows[path])} before and is {_said(said)} here")
                repeated += 1
            rows[path] = said
    except csv.Error as error:
        raise InputError(f"{place}, line {reader.line_num} cannot be read: {error}") from None
    if not rows:
        raise InputError(f"{place} lists no image; expected a first line with the columns, then one for each image")
    notes = (f"{place}: {repeated:,} rows are there twice and count once",) if repeated else ()
    return rows, split is not None, notes


def _said(said: tuple[str, str]) -> str:
    return f"{said[0]!r} ({said[1]})" if said[1] else repr(said[0])


def _column(place: Path, names: list[str], option: str, given: str | None, usual: Sequence[str]) -> int:
    """The position of a column.

    Raises:
        InputError: when there is none.
    """
    if given is not None:
        if given not in names:
            raise InputError(f"data.{option}={given}: {place} has the columns {handful(names, 20)}")
        return names.index(given)
    small = [name.lower() for name in names]
    found = next((small.index(name) for name in usual if name in small), None)
    if found is None:
        raise InputError(
            f"{place} has the columns {handful(names, 20) or 'none'}; expected one of {', '.join(usual)}, or "
            f"data.{option}=NAME"
        )
    return found
