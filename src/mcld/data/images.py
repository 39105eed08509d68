"""Reading image files, and finding the ones that cannot be read before training starts."""

import hashlib
import io
import os
import stat
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypeVar

from mcld.data.cache import listing_key, remembered
from mcld.data.formats import MEGAPIXELS, has_several, in_words, open_image
from mcld.data.pixels import Depth, Peak, is_deep, is_deep_colour, peak, to_bytes
from mcld.errors import InputError
from mcld.files import read_file

if TYPE_CHECKING:
    from PIL.Image import Image

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_REDUCIBLE = frozenset({"L", "RGB"})  # in other modes values are not to be averaged
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Reading:
    """How the image files of a data set are read.

    Attributes:
        depth: what values of more than 8 bits mean; None: each file by what it holds itself.
        megapixels: the most million pixels of an image.
        enough: pixels of the short side that are enough: an image with twice as many is made smaller by a power
            of two while it is decoded, never below this; 0: never.
    """

    depth: Depth | None = None
    megapixels: int = MEGAPIXELS
    enough: int = 0

    @property
    def bytes(self) -> int:
        """The most bytes of a file: a little more than such an image takes where nothing is compressed."""
        return 2**24 + 3_000_000 * self.megapixels


PLAIN = Reading()
"""The way where nothing is said."""


@dataclass(frozen=True)
class Check:
    """What decoding every file of one split once has shown.

    Attributes:
        bad: for each file that cannot be read, why.
        grey: True when no image has colour channels.
        short_side: the median of the images' shorter sides, in pixels.
        content: a hex digest of the readable files' bytes, in order.
        peak: the largest values of images with more than 8 bits.
        several: the readable files that hold several pictures, of which the first is used.
        digests: a hex digest of each readable file's bytes, in order.
    """

    bad: dict[str, str]
    grey: bool
    short_side: int
    content: str
    peak: Peak
    several: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()


def content_of(digests: Iterable[str]) -> str:
    """One hex digest of those of several files."""
    content = hashlib.sha256()
    for digest in digests:
        content.update(bytes.fromhex(digest))
    return content.hexdigest()


def decode(
    data: bytes,
    mode: str | None = None,
    reading: Reading = PLAIN,
    name: str = "",
    told: Callable[[str], None] | None = None,
) -> "Image":
    """Decode one image file, upright as its EXIF orientation says; of several pages or frames, the first.

    Args:
        data: the whole file.
        mode: ``RGB`` or ``L``; None leaves the pixels as they are stored. Values of more than 8 bits are scaled
            (:mod:`mcld.data.pixels`), transparency is dropped.
        reading: how.
        name: of the file.
        told: is told when the file holds several pictures.

    Raises:
        ValueError: when it is no image of the formats that are decoded (:mod:`mcld.data.formats`), or damaged.
    """
    image, _, several = _decode(data, reading, name)
    if several and told is not None:
        told(f"{name} holds several pictures (pages, or frames of an animation); the first is used")
    return prepared(image, mode, reading)


def prepared(image: "Image", mode: str | None, reading: Reading = PLAIN) -> "Image":
    """A decoded image in the mode; see :func:`decode`.

    Raises:
        ValueError: when its values have no meaning as brightness, in a few words.
    """
    if mode is None or image.mode == mode:
        return image
    return (to_bytes(image, reading.depth) if is_deep(image) else image).convert(mode)


def _decode(data: bytes, reading: Reading, name: str) -> "tuple[Image, bool, bool]":
    """(the image upright, has the file 16 bits for each of several channels, does it hold further pictures)."""
    from PIL import ImageOps

    with open_image(io.BytesIO(data), name, reading.megapixels) as opened:
        image: Image = opened
        deep_colour = is_deep_colour(image)
        factor = reduction(image.size, reading.enough)
        try:
            if factor > 1 and image.format == "JPEG":  # its own scaling, by 2, 4 or 8, leaves out most of the work
                image.draft(None, (image.width // factor, image.height // factor))
            image.load()
            if (left := reduction(image.size, reading.enough)) > 1 and image.mode in _REDUCIBLE:
                image = image.reduce(left)
            return ImageOps.exif_transpose(image), deep_colour, has_several(opened)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise nearly any type on damaged files
            raise ValueError(in_words(error)) from None


def reduction(size: tuple[int, int], enough: int) -> int:
    """The power of two by which an image (width, height) is made smaller while it is decoded; 1: it stays as it is."""
    return 1 << max((min(size) // enough).bit_length() - 1, 0) if enough else 1


def read_image(
    path: str, mode: str | None = None, reading: Reading = PLAIN, told: Callable[[str], None] | None = None
) -> "Image":
    """Read and decode one image file; see :func:`decode`.

    Raises:
        InputError: naming the file, when it is gone, no file, too large or damaged.
    """
    try:
        return decode(read_file(path, reading.bytes, "set data.max_megapixels"), mode, reading, path, told)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"cannot read the image {path}: {error}; replace or remove it") from None


def in_threads(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Apply work to every item, in a few threads: decoding leaves the interpreter free."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))


def check_files(root: str, files: Sequence[str], megapixels: int = MEGAPIXELS) -> Check:
    """Decode every file of a split once, and remember the outcome for the next start.

    Args:
        root: the folder that the files are relative to.
        files: relative paths.
        megapixels: the most million pixels of an image.
    """

    def compute() -> dict[str, object]:
        looks = in_threads(lambda file: _look(root, file, megapixels), files)
        good = [look for look in looks if not look.reason]
        return {
            "bad": {file: look.reason for file, look in zip(files, looks, strict=True) if look.reason},
            "grey": all(look.grey for look in good),
            "short_side": int(statistics.median_low([look.side for look in good])) if good else 0,
            "digests": [look.digest.hex() for look in good],
            "peak": asdict(Peak.largest(look.peak for look in good)),
            "several": [file for file, look in zip(files, looks, strict=True) if look.several],
        }

    found = remembered("images", listing_key(root, files, "images", 4, megapixels), compute)
    digests = tuple(found["digests"])
    values = (found["bad"], bool(found["grey"]), int(found["short_side"]), content_of(digests))
    return Check(*values, Peak(**found["peak"]), tuple(found["several"]), digests)


@dataclass(frozen=True)
class _Look:
    """One file: why it is bad or "", is it grey, its short side, its bytes' digest, its largest values, any more."""

    reason: str
    grey: bool = False
    side: int = 0
    digest: bytes = b""
    peak: Peak = field(default_factory=Peak)
    several: bool = False


def _look(root: str, file: str, megapixels: int = MEGAPIXELS) -> _Look:
    reading = Reading(megapixels=megapixels)
    try:
        data = read_file(os.path.join(root, file), reading.bytes, "set data.max_megapixels")  # noqa: PTH118
        image, deep_colour, several = _decode(data, reading, file)
        largest = peak(image, deep_colour)
        if not is_deep(image):
            image.crop((0, 0, 1, 1)).convert("RGB")  # not every mode can be: LAB of a TIFF
    except (OSError, ValueError) as error:
        return _Look(getattr(error, "strerror", None) or str(error) or type(error).__name__)
    digest = hashlib.sha256(data).digest()
    return _Look("", image.mode in _GREY_MODES, min(image.size), digest, largest, several)


def check_there(root: str, files: Sequence[str]) -> dict[str, str]:
    """For each path at which there is no file, why: a link that leads nowhere, a pipe; nothing is opened."""
    bad: dict[str, str] = {}
    for file in files:
        try:
            mode = os.stat(os.path.join(root, file)).st_mode  # noqa: PTH116, PTH118 (a million files)
        except OSError as error:
            bad[file] = error.strerror or str(error)
        else:
            if not stat.S_ISREG(mode):
                bad[file] = "it is no file"
    return bad


def sort_out(
    where: str, files: Sequence[str], bad: dict[str, str], several: Sequence[str] = ()
) -> tuple[list[int], tuple[str, ...]]:
    """Decide what unreadable images mean: a few are skipped, more than 1% is refused (a single one never is).

    Args:
        where: the split's folder, for messages.
        files: relative paths.
        bad: for each unreadable file, why.
        several: files that hold several pictures: they are noted.

    Returns:
        (positions of the readable files, notes for the user).

    Raises:
        InputError: when more than 1% cannot be read.
    """
    notes: tuple[str, ...] = ()
    if several:
        shown = ", ".join(several[:5]) + (f" and {len(several) - 5} more" if len(several) > 5 else "")
        notes += (
            f"{where}: {len(several)} of {len(files)} images hold several pictures (pages, or frames of an animation), "
            f"of which the first is used: {shown}",
        )
    if not bad:
        return list(range(len(files))), notes
    shown = ", ".join(f"{file} ({reason})" for file, reason in list(bad.items())[:5])
    shown += f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    if len(bad) > max(1, len(files) // 100):
        raise InputError(
            f"{len(bad)} of {len(files)} images in {where} cannot be read, more than 1%: {shown}; "
            "replace or remove them"
        )
    note = f"{where}: skipped {len(bad)} of {len(files)} images, which cannot be read: {shown}"
    return [i for i, file in enumerate(files) if file not in bad], (*notes, note)
