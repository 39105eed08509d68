"""How an image becomes what a network sees in evaluation: mode, size and crop, in one definition."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mcld.data.pixels import Depth
from mcld.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB"}
"""The mode of an image with so many channels."""


@dataclass(frozen=True)
class Preprocessing:
    """From an image of any size to the plain view: the short side resized, then a central crop.

    The normalisation that follows is the network's own (``mean`` and ``std`` in ``model.json``).

    Attributes:
        mode: ``RGB``, or ``L`` for grey; empty for images of other channels than one or three, of which there are no
            files.
        resize: length of the short side before the crop, in pixels.
        crop: (height, width) of the view.
        depth: what values of more than 8 bits mean; None: each image by what it holds itself.
        interpolation: of the resizing; there is only ``bilinear``, Pillow's, which smooths where it makes smaller.

    Raises:
        InputError: for a value that cannot be.
    """

    mode: str
    resize: int
    crop: tuple[int, int]
    depth: Depth | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.mode not in (*MODES.values(), ""):
            raise InputError(f"preprocessing: mode is {self.mode!r}; expected RGB, L or an empty text")
        sides = (self.resize, *self.crop)
        if len(sides) != 3 or not all(isinstance(side, int) and 1 <= side <= 2**16 for side in sides):
            raise InputError(
                f"preprocessing: resize is {self.resize!r} and crop is {self.crop!r}; expected pixels, and "
                "(height, width) in pixels"
            )
        if self.interpolation != "bilinear":
            raise InputError(f"preprocessing: interpolation is {self.interpolation!r}; expected bilinear")

    @classmethod
    def to_size(cls, channels: int, size: tuple[int, int]) -> "Preprocessing":
        """For data whose images all have one size: those of this size stay as they are, others are made to fit."""
        return cls(MODES.get(channels, ""), min(size), (size[0], size[1]))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """From what :meth:`to_dict` returned.

        Raises:
            InputError: naming what is missing, unknown or wrong.
        """
        known = {"mode", "resize", "crop", "interpolation", "depth"}
        if not isinstance(values, Mapping) or values.keys() != known:
            raise InputError(f"preprocessing is {values!r}; expected an object with {', '.join(sorted(known))}")
        crop, depth = values["crop"], values["depth"]
        if not isinstance(crop, list) or len(crop) != 2:
            raise InputError(f"preprocessing: crop is {crop!r}; expected [height, width]")
        if depth is not None:
            if not isinstance(depth, Mapping) or depth.keys() != {"bits", "unit"}:
                raise InputError(f"preprocessing: depth is {depth!r}; expected null, or bits and unit")
            if depth["bits"] not in (8, 10, 12, 14, 16) or not isinstance(depth["unit"], bool):
                raise InputError(f"preprocessing: depth is {depth!r}; expected bits of 8 to 16 and unit true or false")
            depth = Depth(**depth)
        return cls(values["mode"], values["resize"], (crop[0], crop[1]), depth, values["interpolation"])

    def to_dict(self) -> dict[str, Any]:
        """JSON values, from which :meth:`from_dict` makes an equal one."""
        depth = self.depth
        return {
            "mode": self.mode,
            "resize": self.resize,
            "crop": list(self.crop),
            "interpolation": self.interpolation,
            "depth": None if depth is None else {"bits": depth.bits, "unit": depth.unit},
        }

    @property
    def description(self) -> str:
        """In words."""
        height, width = self.crop
        crop = f"{height}" if height == width else f"{height}x{width}"
        return f"resize {self.resize}, center crop {crop}{f', {self.mode}' if self.mode else ''}"

    def render(self, image: "Image") -> Tensor:
        """The plain view (channels, height, width) uint8 of an image of this mode. For several threads, too."""
        from torchvision.transforms.v2 import functional as V

        result: Tensor = V.pil_to_tensor(self.fit(image, image.size))
        return result

    def fit(self, image: Any, size: tuple[int, int]) -> Any:
        """The image, a PIL image or a tensor (..., height, width), resized and cropped.

        Args:
            image: of any size.
            size: its (width, height).
        """
        width, height = size
        if self.crop == (height, width) and self.resize == min(self.crop):
            return image
        if self.crop[0] != self.crop[1]:  # so that it covers the crop whatever its proportions
            from torchvision.transforms.v2 import functional as V

            scale = max(self.resize / min(width, height), self.crop[0] / height, self.crop[1] / width)
            whole = [max(self.crop[0], round(height * scale)), max(self.crop[1], round(width * scale))]
            return V.center_crop(V.resize(image, whole, antialias=True), list(self.crop))
        return _square(self.resize, self.crop[0])(image)


@functools.lru_cache(maxsize=16)
def _square(resize: int, crop: int) -> Any:
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop(crop)])
