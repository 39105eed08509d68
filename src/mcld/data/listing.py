"""Listed image files, and what becomes of them: checked, split, and made a data set."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mcld.data._types import DataInfo, DataSet
from mcld.data.decoded import decoded_images
from mcld.data.files import FileSplit, file_stats
from mcld.data.holdout import apply_split, fraction_of, hold_out, read_split, split_text, twins
from mcld.data.images import Check, Reading, check_files, content_of, sort_out
from mcld.data.options import FileOptions
from mcld.data.pixels import Depth, Peak, check_colour, depth_of
from mcld.data.views import SeedViews
from mcld.errors import InputError


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


def listed_data(name: str, root: Path, options: FileOptions, parts: list[Listing], notes: tuple[str, ...]) -> DataSet:
    """The data set of listed files.

    Every file is decoded once at the first start, and the outcome is remembered. A few that cannot be read are skipped
    and noted; more than 1% of a split is refused. Training images are shown as random resized crops, mirrored half of
    the time, validation images as the central part: the short side resized to size · 256/224, then a central crop.

    Args:
        name: of the data set.
        root: where it is, for messages.
        options: how to read it.
        parts: training and validation images; or one, which is split here as the options say.
        notes: lines for the user so far.

    Raises:
        InputError: when too many images are damaged, or no split can be made of them.
    """
    checks = [check_files(str(part.folder), part.files, options.max_megapixels) for part in parts]
    kept = []
    for part, check in zip(parts, checks, strict=True):
        rows, found = sort_out(str(part.folder), part.files, check.bad, check.several)
        notes += part.notes + found
        kept.append(select(part, rows))
    table = ""
    if len(kept) == 1:
        kept, digests, table, found = _split(kept[0], checks[0], options)
    else:
        digests = [check.digests for check in checks]
        found = ()
        if not Path(kept[0].folder).samefile(kept[1].folder) or kept[0].files != kept[1].files:
            found = twins(digests[0], digests[1], kept[1].files, str(kept[1].folder))
    notes += found
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
        name,
        parts[0].classes,
        kept[0],
        kept[1],
        (content_of(digests[0]), content_of(digests[1])),
        views,
        options.cache,
        Reading(depth, options.max_megapixels),
        notes=notes + found,
        split_table=table,
    )


def _split(
    whole: Listing, check: Check, options: FileOptions
) -> tuple[list[Listing], list[tuple[str, ...]], str, tuple[str, ...]]:
    """(training and validation files, what they hold, the table that says so, notes) of files without a split."""
    where, files, digests = str(whole.folder), whole.files, check.digests
    notes: tuple[str, ...] = ()
    share = fraction_of(options.val)
    if options.split is not None:
        train, val, notes = apply_split(where, files, digests, read_split(options.split), options.split)
    elif share == 1:
        notes = (f"{where}: all {len(files):,} images are to evaluate on (data.val=1)",)
        return [whole, whole], [digests, digests], "", notes
    else:
        assert share is not None
        held, single = hold_out(whole.labels, digests, share, options.val_seed)
        train, val = ([i for i, out in enumerate(held) if out is side] for side in (False, True))
        if not val:
            raise InputError(
                f"data.val={options.val}: no class in {where} has two different images; expected at least two, one to "
                "learn from and one to validate on"
            )
        notes = (
            f"{where}: {len(val):,} of {len(files):,} images are held out for validation (data.val={options.val}), "
            "the same share of each class",
        )
        if single:
            names = ", ".join(repr(whole.classes[label]) for label in single[:5])
            notes += (f"warning: {where}: {len(single)} classes have one image, and none to validate on: {names}",)
    lists = [_rows(whole, rows) for rows in (train, val)]
    out = set(val)
    listed = sorted([*train, *val])
    table = split_text([files[i] for i in listed], [digests[i] for i in listed], [i in out for i in listed])
    return lists, [tuple(digests[i] for i in rows) for rows in (train, val)], table, notes


def _rows(part: Listing, rows: list[int]) -> Listing:
    return replace(part, files=[part.files[row] for row in rows], labels=[part.labels[row] for row in rows])


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


def select(part: Listing, rows: list[int]) -> Listing:
    """The listing with only the files at some positions.

    Raises:
        InputError: when a class is left without any.
    """
    if len(rows) == len(part.files):
        return part
    left = {part.labels[row] for row in rows}
    for label, name in enumerate(part.classes):
        if label not in left and label in part.labels:
            raise InputError(f"no image of class {name!r} in {part.folder} can be read; expected at least one")
    return _rows(part, rows)


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
    split_table: str = "",
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
        split_table=split_table,
    )
