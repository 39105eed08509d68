"""What the values of images with more than 8 bits mean: integers of 9 to 16 bits, and floats."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mcld.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_BITS = (8, 10, 12, 14, 16)
_ROUNDING = 1e-3
"""By how much a float may be above its range."""


@dataclass(frozen=True)
class Depth:
    """How the deep images of a data set are scaled to 0 to 255, all alike.

    Attributes:
        bits: of its integers: 8, 10, 12, 14 or 16. A camera's 12 bits come in files of 16.
        unit: its floats are from 0 to 1; else from 0 to 255.
    """

    bits: int = 16
    unit: bool = True


@dataclass(frozen=True)
class Peak:
    """The largest values in some images; 0 where there is no such image.

    Attributes:
        integer: of grey images with more than 8 bits.
        real: of images of floats.
        colour: of colour images of 16 bits, of which Pillow keeps the upper 8: 0 to 255.
    """

    integer: int = 0
    real: float = 0.0
    colour: int = 0

    @staticmethod
    def largest(peaks: "Iterable[Peak]") -> "Peak":
        """The largest of several."""
        found = [Peak(), *peaks]
        return Peak(max(p.integer for p in found), max(p.real for p in found), max(p.colour for p in found))


def is_deep(image: "Image") -> bool:
    """Whether an image is grey with values of more than 8 bits: integers or floats."""
    return image.mode == "F" or image.mode.startswith("I")


def is_deep_colour(image: "Image") -> bool:
    """Whether a file has 16 bits for each of several channels; asked before its pixels are loaded."""
    return len(image.getbands()) > 1 and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def peak(image: "Image", deep_colour: bool) -> Peak:
    """The largest value of an image, decoded.

    Raises:
        ValueError: when its values have no meaning as brightness, in a few words.
    """
    if is_deep(image):
        values = _values(image)
        largest = values.max()
        return Peak(real=float(largest)) if image.mode == "F" else Peak(integer=int(largest))
    if deep_colour:
        bands = image.getextrema()
        return Peak(colour=max(int(high) for _, high in bands[:3]))  # type: ignore[misc]  # several bands: pairs
    return Peak()


def to_bytes(image: "Image", depth: Depth | None) -> "Image":
    """A deep grey image as one of 8 bits (mode ``L``), by the data set's depth, or else by what it holds itself.

    Raises:
        ValueError: as :func:`peak`.
    """
    from PIL import Image

    values = _values(image)
    depth = depth or depth_of(peak(image, False))
    real = image.mode == "F"
    scaled = np.rint(values * 255 if depth.unit else values) if real else values // 2 ** (depth.bits - 8)
    return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))


def depth_of(found: Peak, bits: int | None = None) -> Depth:
    """The depth that fits the largest values.

    Args:
        found: the largest values.
        bits: of the integers, where somebody said so.

    Raises:
        InputError: for other bits than there are.
    """
    if bits is not None and bits not in _BITS:
        raise InputError(f"data.bits={bits}; expected one of {', '.join(map(str, _BITS))}")
    return Depth(bits or next(b for b in _BITS if found.integer < 2**b), found.real <= 1 + _ROUNDING)


def check_colour(found: Peak, where: str, bits: int | None) -> None:
    """Check that colour images of 16 bits use their upper bits, as Pillow keeps no others.

    Raises:
        InputError: when they do not, and nobody said that it is all right (``bits`` 16).
    """
    if 0 < found.colour < 64 and bits != 16:
        raise InputError(
            f"{where} has colour images of 16 bits with values up to {found.colour * 256 + 255} only, of which the "
            f"upper 8 bits would be {found.colour} at most; save them with 8 bits, or set data.bits=16 if they are dark"
        )


def _values(image: "Image") -> "np.ndarray[tuple[int, ...], np.dtype[np.int32 | np.float32]]":
    values = np.asarray(image if image.mode in ("F", "I") else image.convert("I"))
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("its floats are NaN or Inf; expected values from 0 to 1 or from 0 to 255")
    if image.mode == "F" and (low < -_ROUNDING or high > 255.5):
        raise ValueError(f"its floats are from {low:g} to {high:g}; expected values from 0 to 1 or from 0 to 255")
    if image.mode != "F" and (low < 0 or high > 65535):
        raise ValueError(f"its integers are from {low} to {high}; expected values from 0 to 65535")
    return values
