"""Holding out a part of the images for validation, and the file that says which: ``split.csv``."""

import csv
import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Sequence

from mcld.data._classes import handful
from mcld.errors import InputError
from mcld.files import home_path, read_text
from mcld.text import csv_text, name_of

SPLIT_FILE = "split.csv"
_COLUMNS = ["path", "digest", "split"]
_LARGEST = 2**30


def fraction_of(val: str | None) -> float | None:
    """The share of images to hold out, in (0, 1], where ``data.val`` is a number; None where it names a folder.

    Raises:
        InputError: for a number that is no such share.
    """
    if val is None or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", val.strip(), re.IGNORECASE):
        return None
    share = float(val)
    if not 0 < share <= 1:
        raise InputError(
            f"data.val={val}; expected the share of the images to validate on, such as 0.1 (1 for all of them, to "
            "evaluate), or the name of a folder"
        )
    return share


def hold_out(labels: Sequence[int], digests: Sequence[str], share: float, seed: int) -> tuple[list[bool], list[int]]:
    """Choose a share of each class's images, by what the files hold: equal files stay together.

    In each class the different files are ordered by a digest of the seed and their content, and the first are held out:
    names, places and the order of the files play no part, and a new file moves few of the others. At least one is held
    out and one is left. A file that is there in several classes counts in the first of them.

    Args:
        labels: the class of each file.
        digests: what each file holds.
        share: of the images, in (0, 1].
        seed: of the choice.

    Returns:
        For each file whether it is held out, and the classes with a single file (or copies of it), which all stay.
    """
    if share == 1:
        return [True] * len(labels), []
    groups: dict[int, list[str]] = defaultdict(list)
    first: dict[str, int] = {}
    for label, digest in sorted(zip(labels, digests, strict=True)):
        if first.setdefault(digest, label) == label:
            groups[label].append(digest)
    held: set[str] = set()
    single = []
    for label, members in groups.items():
        distinct = sorted(set(members), key=lambda digest: hashlib.sha256(f"{seed}/{digest}".encode()).digest())
        if len(distinct) == 1:
            single.append(label)
            continue
        held.update(distinct[: min(max(round(share * len(distinct)), 1), len(distinct) - 1)])
    return [digest in held for digest in digests], single


def split_text(files: Sequence[str], digests: Sequence[str], held: Sequence[bool]) -> str:
    """The content of ``split.csv``: a row for each file with its path, what it holds, and ``train`` or ``val``."""
    rows = zip(files, digests, held, strict=True)
    return csv_text(
        _COLUMNS,
        ({"path": name_of(path), "digest": digest, "split": "val" if out else "train"} for path, digest, out in rows),
    )


def read_split(given: str) -> dict[str, bool]:
    """For what each file holds whether it is held out, from ``split.csv`` or the run directory that has one.

    Raises:
        InputError: when there is none, or it is damaged.
    """
    place = home_path(given)
    place = place / SPLIT_FILE if place.is_dir() else place
    expected = f"expected a run directory with a {SPLIT_FILE}, or such a file"
    if not place.exists():
        raise InputError(f"data.split={given}: there is no {place}; {expected}")
    reader = csv.DictReader(io.StringIO(read_text(place, _LARGEST), newline=""))
    found: dict[str, bool] = {}
    try:
        if reader.fieldnames != _COLUMNS:
            raise InputError(f"data.split={given}: {place} has the columns {reader.fieldnames}; {expected}")
        for row in reader:
            if row["split"] not in ("train", "val") or not row["digest"]:
                raise InputError(f"data.split={given}: {place}, line {reader.line_num} is damaged; {expected}")
            if found.setdefault(row["digest"], row["split"] == "val") != (row["split"] == "val"):
                raise InputError(f"data.split={given}: {row['path']} is in train and in val of {place}; {expected}")
    except csv.Error as error:
        raise InputError(f"data.split={given}: {place} cannot be read: {error}; {expected}") from None
    return found


def apply_split(
    where: str, files: Sequence[str], digests: Sequence[str], known: dict[str, bool], given: str
) -> tuple[list[int], list[int], tuple[str, ...]]:
    """(positions of the training files, of the held-out files, notes), as an earlier split says.

    Raises:
        InputError: when none of the files of one of the two parts is there.
    """
    train = [i for i, digest in enumerate(digests) if known.get(digest) is False]
    val = [i for i, digest in enumerate(digests) if known.get(digest) is True]
    if not train or not val:
        missing = "training" if not train else "validation"
        raise InputError(f"data.split={given}: none of its {missing} images is in {where}; expected the same images")
    notes: tuple[str, ...] = (f"{where}: {len(train):,} training and {len(val):,} validation images as in {given}",)
    if new := [files[i] for i, digest in enumerate(digests) if digest not in known]:
        notes += (f"{where}: left out {len(new):,} files that {given} does not know: {handful(new)}",)
    if gone := len(known.keys() - set(digests)):
        notes += (f"warning: {where}: {gone:,} images of {given} are not there any more, or changed",)
    return train, val, notes


def twins(train: Sequence[str], val: Sequence[str], files: Sequence[str], where: str) -> tuple[str, ...]:
    """A line when files of both splits are the same, byte for byte.

    Args:
        train: what each training file holds.
        val: the same of the validation files.
        files: the paths of these.
        where: the folder of these.
    """
    known = set(train)
    same = [file for file, digest in zip(files, val, strict=True) if digest in known]
    if not same:
        return ()
    return (
        f"warning: {len(same):,} of {len(files):,} validation images in {where} are training images, too, byte for "
        f"byte: {handful(same)}; figures on them are too good",
    )
