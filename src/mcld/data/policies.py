"""TrivialAugment, RandAugment and FixMatch's strong view for whole batches of uint8 images held in memory.

Every random choice is a hash of (image index, view id), and all pixels are computed with integers. So a view is the
same to the bit in every process and on every device, and no random state is touched.

The operations of the first two and their ranges are torchvision's, interpolation by the nearest pixel and filling with
zeros included; a value may differ from torchvision's by 1, where that rounds floating-point numbers. The third has the
same operations with the ranges of FixMatch, and a grey square on top (:func:`apply_policy`).
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

POLICIES = ("none", "trivial", "rand", "fixmatch")
BINS = 31
OPERATIONS = (
    "identity",
    "shear x",
    "shear y",
    "translate x",
    "translate y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
NUMBERS = 9  # that a policy chooses by
SQUARE = (125, 123, 114)  # the colour of FixMatch's square, CIFAR's mean
_ONE = 1 << 16  # 1 as a fixed-point number
_LUMA = tuple(round(share * _ONE) for share in (0.2989, 0.587, 0.114))  # of red, green and blue


class Table(NamedTuple):
    """What each operation, strength and sign means; each has one row.

    Attributes:
        affine: (R, 6) int32, from an output pixel to where it comes from, relative to the centre, times 2¹⁶.
        lookup: (R, 256) uint8, the new value of each old one.
        factor: (R,) int64, of ``color``, ``contrast`` or ``sharpness``, times 2¹⁶.
    """

    affine: Tensor
    lookup: Tensor
    factor: Tensor


def hashed(x: Tensor) -> Tensor:
    """A fixed pseudo-random number from 0 to 2³² − 1 for each number of that range, int64 of any shape.

    T. Mueller's integer hash: its products fit into 64 bits, so it is equal on every device.
    """
    for _ in range(2):
        x = (x ^ (x >> 16)) * 0x45D9F3B & 0xFFFFFFFF
    return x ^ (x >> 16)


def draws(index: Tensor, view: Tensor, n: int) -> Tensor:
    """n pseudo-random numbers from 0 to 2³² − 1 for each pair of an image's index and a view id, (n, B) int64."""
    state = torch.zeros_like(index)
    for word in (view >> 32, view, index >> 32, index):
        state = hashed(state ^ (word & 0xFFFFFFFF) ^ 0x9E3779B9)
    return hashed(state ^ hashed(torch.arange(1, n + 1, device=index.device))[:, None])


def apply_policy(policy: str, images: Tensor, numbers: Tensor, plain: Tensor) -> Tensor:
    """The images after what their numbers choose.

    TrivialAugment is one operation at a strength from 0 to 30, both drawn evenly; RandAugment is two operations at
    strength 9 of 30. FixMatch's strong view (Sohn et al., NeurIPS 2020), as the codes of MLKD and SLD have it, is two
    operations at drawn strengths, which only darken, grey, flatten and blur, and a square of up to half the image's
    width at a drawn place.

    Args:
        policy: ``trivial``, ``rand`` or ``fixmatch``.
        images: (B, channels, H, W) uint8.
        numbers: (``NUMBERS``, B), from :func:`draws`.
        plain: (B,) bool, images to leave as they are.
    """
    meaning = table(policy, (images.shape[2], images.shape[3]), images.device)
    for operation, strength, sign in (numbers[:3], numbers[3:6])[: 1 if policy == "trivial" else 2]:
        level = torch.full_like(strength, 9) if policy == "rand" else strength % BINS
        rows = row_of(operation % len(OPERATIONS), level, sign >> 31)
        images = apply_operations(images, rows.masked_fill(plain, 0), meaning)
    return cut_out(images, numbers[6:9], plain) if policy == "fixmatch" else images


def cut_out(images: Tensor, numbers: Tensor, plain: Tensor) -> Tensor:
    """The images with a square of one colour each, at an even place, with a side of 0 to half the width.

    Args:
        images: (B, channels, H, W) uint8.
        numbers: (3, B) from 0 to 2³² − 1: the side, and across and down where the middle is.
        plain: (B,) bool, images to leave as they are.
    """
    channels, height, width = images.shape[1:]
    side = numbers[0] * width >> 17
    inside = ~plain[:, None, None]
    for middle, length, shape in ((numbers[1], width, (1, 1, -1)), (numbers[2], height, (1, -1, 1))):
        first = ((middle * length >> 16) - (side >> 1)).clamp(min=0) >> 16
        last = first + (side >> 16)  # included, as Pillow draws it
        place = torch.arange(length, device=images.device).view(shape)
        inside = inside & (place >= first[:, None, None]) & (place <= last[:, None, None])
    values = SQUARE if channels == len(SQUARE) else (SQUARE[1],) * channels
    colour = torch.tensor(values, dtype=torch.uint8, device=images.device).view(1, -1, 1, 1)
    return torch.where(inside[:, None], colour, images)


def row_of(operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """The row of an operation (its place in ``OPERATIONS``) with a strength from 0 to 30 and a sign, 0 or 1."""
    return (operation * BINS + level) * 2 + sign


@functools.lru_cache(maxsize=16)
def table(policy: str, size: tuple[int, int], device: torch.device) -> Table:
    """All rows of a policy, for images of (height, width).

    Args:
        policy: ``trivial`` (the wide ranges of Müller & Hutter, ICCV 2021), ``rand`` (Cubuk et al., NeurIPS 2020) or
            ``fixmatch`` (Sohn et al., NeurIPS 2020).
        size: of the images. Images below 32 pixels are moved by at most their own size.
        device: where it should be.
    """
    height, width = size
    wide, strong = policy == "trivial", policy == "fixmatch"
    farthest = {
        "shear x": 0.99 if wide else 0.3,
        "shear y": 0.99 if wide else 0.3,
        "translate x": min(32, width) if wide else (0.3 if strong else 150 / 331) * width,
        "translate y": min(32, height) if wide else (0.3 if strong else 150 / 331) * height,
        "rotate": 135 if wide else 30,
    }
    affine, lookup, factor = [], [], []
    for operation in OPERATIONS:
        for level in range(BINS):
            for sign in (1, -1):
                # FixMatch's strengths have no ends: the middles of 31 even parts.
                share = (level + 0.5) / BINS if strong else level / (BINS - 1)
                amount = sign * share * farthest.get(operation, 0.99 if wide else 0.9)
                blend = 0.05 + 0.9 * share if strong else 1 + amount
                affine.append(_affine(operation, amount, size, integer=not strong))
                lookup.append(_lookup(operation, blend, share, 6 if wide else 4, strong))
                factor.append(round(blend * _ONE))
    return Table(
        torch.tensor(affine, dtype=torch.int32).to(device),
        torch.tensor(lookup, dtype=torch.uint8).to(device),
        torch.tensor(factor, dtype=torch.int64).to(device),
    )


def _affine(operation: str, amount: float, size: tuple[int, int], integer: bool) -> list[int]:
    """[a, b, c, d, e, f] with source x = a x + b y + c and source y = d x + e y + f, times 2¹⁶.

    ``integer`` moves by whole pixels only.
    """
    a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0
    if operation == "shear x":  # about the upper left corner
        b, c = amount, amount * size[0] / 2
    elif operation == "shear y":
        d, f = amount, amount * size[1] / 2
    elif operation == "translate x":
        c = -float(int(amount)) if integer else -amount
    elif operation == "translate y":
        f = -float(int(amount)) if integer else -amount
    elif operation == "rotate":  # counter-clockwise, about the centre
        angle = math.radians(amount)
        a, b, d, e = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    return [round(x * _ONE) for x in (a, b, c, d, e, f)]


def _lookup(operation: str, factor: float, share: float, lost_bits: int, strong: bool) -> list[int]:
    if operation == "brightness":
        return [min(255, int(value * factor + 1e-9)) for value in range(256)]
    if operation == "posterize":
        kept = int(4 + 4 * share) if strong else round(8 - lost_bits * share)
        mask = 0xFF << (8 - kept) & 0xFF
        return [value & mask for value in range(256)]
    if operation == "solarize":
        threshold = 256 * share if strong else 255 * (1 - share)
        return [255 - value if value >= threshold else value for value in range(256)]
    return list(range(256))


def apply_operations(images: Tensor, rows: Tensor, meaning: Table) -> Tensor:
    """Each image after the operation of its row.

    Args:
        images: (B, channels, H, W) uint8.
        rows: (B,) int64, from :func:`row_of`; row 0 leaves an image as it is.
        meaning: for images of this size, on their device.

    Returns:
        (B, channels, H, W) uint8.
    """
    first = rows // (2 * BINS)
    for names, change in _CHANGES.items():
        wanted = torch.zeros_like(rows, dtype=torch.bool)
        for name in names:
            wanted = wanted | (first == OPERATIONS.index(name))
        if picks(images.device):
            some = wanted.nonzero()[:, 0]
            if len(some):
                images = images.index_copy(0, some, change(images[some], rows[some], meaning))
        else:
            images = torch.where(wanted[:, None, None, None], change(images, rows, meaning), images)
    return images


def picks(device: torch.device) -> bool:
    """Whether to pick out the images of each operation; looking for them on an accelerator would be to wait for it."""
    return device.type == "cpu"


def _moved(images: Tensor, rows: Tensor, meaning: Table) -> Tensor:
    """Each pixel from where its matrix points to, 0 from outside of the image."""
    channels, height, width = images.shape[1:]
    # Coordinates from the centre, doubled, so that they are whole numbers.
    x = 2 * torch.arange(width, device=images.device, dtype=torch.int32) - (width - 1)
    y = (2 * torch.arange(height, device=images.device, dtype=torch.int32) - (height - 1))[:, None]
    a, b, c, d, e, f = meaning.affine[rows, :, None, None].unbind(1)
    column = (a * x + b * y + 2 * c + width * _ONE) >> 17  # rounded: half a pixel is _ONE here
    row = (d * x + e * y + 2 * f + height * _ONE) >> 17
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1).long()
    moved = images.flatten(2).gather(2, place[:, None, :].expand(-1, channels, -1)).view_as(images)
    return moved * inside[:, None]


def _replaced(images: Tensor, rows: Tensor, meaning: Table) -> Tensor:
    return _look_up(images, meaning.lookup[rows, None, :].expand(-1, images.shape[1], -1))


def _look_up(images: Tensor, lookup: Tensor) -> Tensor:
    return lookup.gather(2, images.flatten(2).long()).view_as(images)


def _colored(images: Tensor, rows: Tensor, meaning: Table) -> Tensor:
    """Away from or towards grey; grey images stay."""
    return images if images.shape[1] == 1 else _blend(images, _grey(images), meaning.factor[rows])


def _contrasted(images: Tensor, rows: Tensor, meaning: Table) -> Tensor:
    """Away from or towards the image's mean grey."""
    factor = meaning.factor[rows]
    rest = _grey(images).sum((1, 2, 3)) * (_ONE - factor) // (images.shape[2] * images.shape[3])
    return _integers(images * factor.int()[:, None, None, None] + rest.int()[:, None, None, None])


def _sharpened(images: Tensor, rows: Tensor, meaning: Table) -> Tensor:
    """All pixels but the outermost, away from or towards their blurred value."""
    if min(images.shape[2:]) < 3:
        return images
    x = images.int()
    lines = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    inner = x[:, :, 1:-1, 1:-1]
    total = lines[..., :-2] + lines[..., 1:-1] + lines[..., 2:] + 4 * inner
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = _blend(inner, (2 * total + 13) // 26, meaning.factor[rows])
    return result


def _stretched(images: Tensor, rows: Tensor, meaning: Table) -> Tensor:  # noqa: ARG001
    """The values of each channel spread over 0 to 255."""
    x = images.int()
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) * 255 // (high - low).clamp(min=1), x).to(torch.uint8)


def _equalized(images: Tensor, rows: Tensor, meaning: Table) -> Tensor:  # noqa: ARG001
    """Each channel with a flat histogram, as Pillow makes it."""
    values = images.flatten(2).long()
    histogram = torch.zeros(*values.shape[:2], 256, dtype=torch.int32, device=values.device)
    histogram.scatter_add_(2, values, torch.ones_like(values, dtype=torch.int32))
    below = histogram.cumsum(2) - histogram
    step = (values.shape[2] - histogram.gather(2, values.amax(2, keepdim=True))) // 255
    lookup = ((below + step // 2) // step.clamp(min=1)).clamp(0, 255)
    return _look_up(images, torch.where(step > 0, lookup, torch.arange(256, device=values.device)).to(torch.uint8))


def _grey(images: Tensor) -> Tensor:
    """(B, 1, H, W) int32 of (B, channels, H, W): luma, or the one channel."""
    x = images.int()
    if x.shape[1] == 1:
        return x
    red, green, blue = x.unbind(1)
    return ((_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue) >> 16)[:, None]


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """other + factor · (x − other) as uint8."""
    return _integers(other * _ONE + factor.int()[:, None, None, None] * (x - other))


def _integers(fixed: Tensor) -> Tensor:
    """The whole part of fixed-point numbers, cut to 0..255."""
    return (fixed >> 16).clamp(0, 255).to(torch.uint8)


_CHANGES: dict[tuple[str, ...], Callable[[Tensor, Tensor, Table], Tensor]] = {
    ("shear x", "shear y", "translate x", "translate y", "rotate"): _moved,
    ("brightness", "posterize", "solarize"): _replaced,
    ("color",): _colored,
    ("contrast",): _contrasted,
    ("sharpness",): _sharpened,
    ("autocontrast",): _stretched,
    ("equalize",): _equalized,
}
