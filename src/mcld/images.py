"""How a network wants its images, where that is not as they are given."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcld.checks import check_names
from mcld.errors import InputError


@dataclass(frozen=True)
class ImageSpec:
    """How images are given, or how a network takes them.

    Attributes:
        mean: of each channel, for images scaled to [0, 1], that is subtracted; empty for 0.
        std: of each channel, that they are divided by; empty for 1.
        size: (height, width) in pixels, or one number for a square; None for any.

    Raises:
        InputError: for a mean or std that are no finite numbers, one for each channel, or a size that is none.

    Example:
        >>> from mcld import ImageSpec
        >>> ImageSpec(mean=[0.5], std=[0.25], size=32)
        ImageSpec(mean=(0.5,), std=(0.25,), size=(32, 32))
    """

    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    size: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, Sequence) or isinstance(values, str) or not all(map(_is_finite, values)):
                raise InputError(f"{name} is {values!r}; expected a list of finite numbers, one for each channel")
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if self.std and min(self.std) <= 0:
            raise InputError(f"std is {self.std!r}; expected positive numbers")
        if self.mean and self.std and len(self.mean) != len(self.std):
            raise InputError(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}; expected one for each channel"
            )
        if self.size is not None:
            object.__setattr__(self, "size", image_sides(self.size))

    @property
    def normalized(self) -> bool:
        """Whether there is a mean or a std, so that the numbers may leave [0, 1]."""
        return bool(self.mean or self.std)

    @property
    def sides(self) -> tuple[int, int] | None:
        """(height, width), or None."""
        return None if self.size is None else image_sides(self.size)


Images: TypeAlias = Callable[[Tensor], Tensor] | ImageSpec | Mapping[str, Any]
"""What takes images to a network: a function of a batch, an :class:`ImageSpec`, or its fields as a mapping."""


def image_sides(size: object, name: str = "size") -> tuple[int, int]:
    """(height, width) of a number or a pair.

    Raises:
        InputError: for anything else.
    """
    sides = (size, size) if isinstance(size, int) else size
    if (
        not isinstance(sides, Sequence)
        or len(sides) != 2
        or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
    ):
        raise InputError(f"{name} is {size!r}; expected a number of pixels, or (height, width)")
    return sides[0], sides[1]


def image_spec(given: ImageSpec | Mapping[str, Any] | None, name: str) -> ImageSpec:
    """A spec of a mapping of its fields.

    Raises:
        InputError: for anything else, or an unknown field.
    """
    if given is None:
        return ImageSpec()
    if isinstance(given, ImageSpec):
        return given
    if not isinstance(given, Mapping):
        raise InputError(f"{name} is {given!r}; expected mcld.ImageSpec(mean, std, size), or a mapping of these")
    check_names(f"field of {name}", given, [field.name for field in fields(ImageSpec)])
    return ImageSpec(**given)


def converter(given: ImageSpec, wanted: Images | None, name: str) -> nn.Module | None:
    """A module that takes images as they are given to what a network wants; None where nothing is to be done.

    Args:
        given: how the images are given.
        wanted: what the network takes: a function, or a spec; None for the images as they are given.
        name: of the argument, for messages.

    Raises:
        InputError: for what cannot be right.
    """
    if wanted is None:
        return None
    if callable(wanted):
        return _Call(wanted)
    after = image_spec(wanted, name)
    return Convert(given, after)


class Convert(nn.Module):
    """Takes images (B, channels, H, W) from one spec to another: resized (bilinear, antialiased), then normalised.

    Args:
        before: how they are given.
        after: how they are wanted.

    Raises:
        InputError: in use, for uint8 where images are said to be normalised.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, before: ImageSpec, after: ImageSpec) -> None:
        super().__init__()
        self.size, self.before = after.sides, before
        self.same = (before.mean, before.std) == (after.mean, after.std)
        mean, std, out_mean, out_std = (
            torch.tensor(values or (default,)).view(-1, 1, 1)
            for values, default in ((before.mean, 0.0), (before.std, 1.0), (after.mean, 0.0), (after.std, 1.0))
        )
        # ((x · std + mean) − out_mean) / out_std; no part of a state dict
        self.register_buffer("scale", std / out_std, persistent=False)
        self.register_buffer("shift", (mean - out_mean) / out_std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The images as they are wanted, floating point."""
        if images.dtype == torch.uint8:
            if self.before.normalized:
                raise InputError(f"images are uint8, but said to be given as {self.before}; expected floating point")
            images = images.to(self.scale.dtype) / 255
        if self.size is not None and tuple(images.shape[-2:]) != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        return images if self.same else images * self.scale + self.shift


class _Call(nn.Module):
    """A function as a module; one that is a module itself is borrowed: no part of parameters and state dict."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.call = (function,)  # in a tuple, where torch does not look for modules

    def forward(self, images: Tensor) -> Tensor:
        return self.call[0](images)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
