"""What a view id means: finite crops with flips, or a seed for continuous augmentation."""

import functools
import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mcld.data.policies import NUMBERS, POLICIES, apply_policy, draws, hashed
from mcld.data.preprocessing import Preprocessing
from mcld.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

APPROXIMATION = "(approximation)"  # of the whole augmentation by a pool of views, in its description


@dataclass(frozen=True)
class CropFlip:
    """Zero padding, a crop of the image's own size, and perhaps a mirror image: the CIFAR recipe, as a finite set of
    views.

    View id = (dy · (2·padding + 1) + dx) · F + flipped, with the crop's corner (dy, dx) in the padded image from 0 to
    2·padding, and F = 2 with ``flip``, else 1. So padding 4 with flip has 162 views. Padding 0 without flip has one.

    With a ``pool`` of V each image has only V of these views, ids 0 to V − 1: view (start + id · stride) mod 162, where
    start is a hash of the image's index, and the stride spreads consecutive ids evenly over all views.

    With a ``policy`` the view id is a seed: crop, flip and policy are drawn from (index, view id) alone.

    In both cases id −1 is the image as it is.

    Attributes:
        size: (height, width) of the image and of the view.
        padding: pixels of zeros on each side.
        flip: whether half of the views are mirrored left to right.
        policy: a further augmentation: ``none``, ``trivial``, ``rand`` or ``fixmatch`` (:mod:`mcld.data.policies`).
        pool: show only so many different views of each image: an approximation.

    Raises:
        InputError: for an unknown policy, or a pool without a view or with more than there are.
    """

    size: tuple[int, int]
    padding: int = 4
    flip: bool = True
    policy: str = "none"
    pool: int | None = None

    def __post_init__(self) -> None:
        _check_policy(self.policy)
        _check_pool(self.pool, self._crops if self.policy == "none" else None)

    @property
    def count(self) -> int | None:
        """The number of distinct views of each image, or None when every seed is one."""
        return self.pool or (self._crops if self.policy == "none" else None)

    @property
    def _crops(self) -> int:
        return (2 * self.padding + 1) ** 2 * (2 if self.flip else 1)

    @property
    def center(self) -> int:
        """The id of the image as it is."""
        return self._plain if self.policy == "none" and self.pool is None else -1

    @property
    def _plain(self) -> int:
        return self.encode(self.padding, self.padding, False)

    @property
    def description(self) -> str:
        """Exact words that identify the augmentation."""
        height, width = self.size
        crop = f"crop {height}" if height == width else f"crop {height}x{width}"
        flip = ", horizontal flip" if self.flip else ""
        return f"{crop}, padding {self.padding}{flip}{_words(self.policy, self.pool)}"

    @property
    def _stride(self) -> int:
        """The golden section of all views, or the next number without a factor in common: all views are reached."""
        stride = round(0.618034 * self._crops)
        while math.gcd(stride, self._crops) > 1:
            stride += 1
        return stride

    def encode(self, dy: int, dx: int, flipped: bool) -> int:
        """The id of one view."""
        corner = dy * (2 * self.padding + 1) + dx
        return corner * 2 + int(flipped) if self.flip else corner

    def sample(self, n: int, generator: torch.Generator, position: int = 0) -> Tensor:  # noqa: ARG002
        """Draw n view ids, all equally likely, (n,) int64."""
        return torch.randint(self.count or 2**62, (n,), generator=generator)

    def with_pool(self, pool: int) -> "CropFlip":
        """The same views, only ``pool`` of each image."""
        return replace(self, pool=pool)

    def pad(self, images: Tensor) -> Tensor:
        """Surround images (..., H, W) with the zeros that ``apply`` expects."""
        p = self.padding
        return F.pad(images, (p, p, p, p)) if p else images

    def apply(self, padded: Tensor, index: Tensor, view: Tensor) -> Tensor:
        """The views of the images at ``index``, cut from all images at once by index arithmetic.

        Args:
            padded: (N, channels, H + 2·padding, W + 2·padding), from ``pad``.
            index: (B,) int64 on the device of ``padded``.
            view: (B,) int64 on the device of ``padded``, from 0 to count − 1, or the center.

        Returns:
            (B, channels, H, W), contiguous.
        """
        plain, n = view < 0, self._crops
        if self.policy == "none":
            if self.pool is not None:
                view = torch.where(plain, self._plain, (hashed(index) % n + view * self._stride) % n)
            return self._cut(padded, index, view)
        numbers = draws(index, view, 1 + NUMBERS)
        images = self._cut(padded, index, torch.where(plain, self._plain, numbers[0] % n))
        return apply_policy(self.policy, images, numbers[1:], plain)

    def _cut(self, padded: Tensor, index: Tensor, view: Tensor) -> Tensor:
        """The crops (B, channels, H, W) with ids ``view`` among all there are."""
        images = padded.index_select(0, index)
        if self._crops == 1:
            return images
        (height, width), span = self.size, 2 * self.padding + 1
        corner = torch.div(view, 2, rounding_mode="floor") if self.flip else view
        row = torch.div(corner, span, rounding_mode="floor")[:, None] + torch.arange(height, device=view.device)
        across = torch.arange(width, device=view.device)
        if self.flip:
            across = torch.where((view % 2 == 1)[:, None], width - 1 - across, across)
        column = (corner % span)[:, None] + across
        pixel = (row[:, :, None] * padded.shape[3] + column[:, None, :]).flatten(1)
        batch, channels = images.shape[:2]
        chosen = pixel[:, None, :].expand(batch, channels, height * width)
        return images.flatten(2).gather(2, chosen).view(batch, channels, height, width)


@dataclass(frozen=True)
class SeedViews:
    """Random resized crops of photos, where the view id is the seed.

    The augmentation is drawn from a generator seeded with (index, view id) alone, so it is the same in every process
    and leaves the random state of the process as it was. Id −1 is the plain view: the short side resized to ``resize``,
    then a central crop.

    Attributes:
        size: height and width of a view.
        resize: length of the short side before the central crop.
        mode: ``RGB`` or ``L`` (grey).
        random: False leaves only the plain view.
        scale: the smallest share of the image's area that a crop keeps, above 0 to 1.
        policy: a further augmentation: ``none``, ``trivial`` (Müller & Hutter, ICCV 2021), ``rand`` (Cubuk et al.,
            NeurIPS 2020) or ``fixmatch`` (Sohn et al., NeurIPS 2020; :func:`mcld.data.policies.apply_policy`).
        pool: show only so many different views of each image, seeds 0 to pool − 1: an approximation.

    Raises:
        InputError: for a scale, policy or pool out of range.
    """

    size: int
    resize: int
    mode: str = "RGB"
    random: bool = True
    scale: float = 0.35
    policy: str = "none"
    pool: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise InputError(f"scale is {self.scale}; expected above 0 and at most 1")
        _check_policy(self.policy)
        _check_pool(self.pool, None if self.random else 1)

    @property
    def count(self) -> int | None:
        """The number of distinct views, or None when every seed is one."""
        return self.pool if self.random else 1

    @property
    def center(self) -> int:
        """The id of the plain view."""
        return -1 if self.random else 0

    @property
    def description(self) -> str:
        """Exact words that identify the augmentation."""
        plain = self.plain.description
        if not self.random:
            return plain
        random = f"random resized crop {self.size} of area {self.scale:g} to 1 from {self.enough}, horizontal flip"
        return f"{random}{_words(self.policy, self.pool)}; {plain}"

    @property
    def enough(self) -> int:
        """The short side in pixels from which on an image has more than its smallest crop needs.

        The smallest crop has the share ``scale`` of the area, and sides in the proportion 3 to 4.
        """
        return math.ceil(self.size / math.sqrt(0.75 * self.scale))

    @property
    def plain(self) -> Preprocessing:
        """How the plain view is made."""
        return Preprocessing(self.mode, self.resize, (self.size, self.size))

    def sample(self, n: int, generator: torch.Generator, position: int = 0) -> Tensor:  # noqa: ARG002
        """Draw n view ids, (n,) int64."""
        return torch.randint(self.count or 2**62, (n,), generator=generator)

    def with_pool(self, pool: int) -> "SeedViews":
        """The same views, only ``pool`` of each image."""
        return replace(self, pool=pool)

    def render(self, image: "Image | Tensor", index: int, view: int) -> Tensor:
        """The view (channels, size, size) uint8 of one decoded image. Not for several threads at once.

        Random views are computed from uint8 tensors, at 224 and 384 px in 0.4 of Pillow's time, at 32 px in 1.5
        (``benchmarks/photo_loader.py``); the plain view by Pillow, as everywhere in evaluation.

        Args:
            image: a PIL image, or its pixels (channels, height, width) uint8, fastest where the channels of a pixel lie
                side by side in memory.
            index: of the image.
            view: its id.
        """
        if view == self.center:
            return self.plain.render(to_picture(image) if isinstance(image, Tensor) else image)
        digest = hashlib.sha256(f"{index}/{view}".encode()).digest()
        # The v2 transforms draw from torch's default CPU generator and take no other. torch.manual_seed would also seed
        # every accelerator, so only the CPU generator is seeded, and put back afterwards.
        generator = torch.default_generator
        before = generator.get_state()
        try:
            generator.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            rendered: Tensor = _augmentation(self)(image if isinstance(image, Tensor) else to_pixels(image))
        finally:
            generator.set_state(before)
        if self.policy != "fixmatch":  # which torchvision does not have
            return rendered.contiguous()
        numbers = draws(torch.tensor([index]), torch.tensor([view]), NUMBERS)
        return apply_policy(self.policy, rendered[None], numbers, torch.tensor([False]))[0]


_Kind = TypeVar("_Kind", CropFlip, SeedViews)


@dataclass(frozen=True)
class TwoKinds(Generic[_Kind]):
    """Views of which a step shows two for each image: even ids are the first kind's, odd ones the second's.

    Id v is view v // 2 of its kind, and −1 the plain view.

    Attributes:
        first: of the first view of an image.
        second: of the others.
    """

    first: _Kind
    second: _Kind

    @property
    def count(self) -> int | None:
        """The number of distinct views, or None when one of the kinds has no end."""
        return 2 * self.first.count if self.first.count and self.first.count == self.second.count else None

    @property
    def center(self) -> int:
        """The id of the plain view."""
        return -1

    @property
    def description(self) -> str:
        """Exact words that identify the augmentation."""
        return f"{self.first.description}; second view: {self.second.description}"

    def sample(self, n: int, generator: torch.Generator, position: int = 0) -> Tensor:
        """Draw n ids of first (position 0) or second views, (n,) int64."""
        if position:
            return self.second.sample(n, generator) * 2 + 1
        return self.first.sample(n, generator) * 2

    def with_pool(self, pool: int) -> "TwoKinds[_Kind]":
        """The same views, only ``pool`` of each kind of each image."""
        return TwoKinds(self.first.with_pool(pool), self.second.with_pool(pool))

    def part(self, view: int) -> tuple[_Kind, int]:
        """The kind of a view, and its id there."""
        return self.second if view % 2 else self.first, view // 2


def second_kind(views: "_Kind | TwoKinds[_Kind]", policy: str) -> TwoKinds[_Kind]:
    """Views with the policy for the second of two views of an image."""
    first = views.first if isinstance(views, TwoKinds) else views
    return TwoKinds(first, replace(first, policy=policy))


def _check_policy(policy: str) -> None:
    if policy not in POLICIES:
        raise InputError(f"policy is {policy!r}; expected one of {', '.join(POLICIES)}")


def _check_pool(pool: int | None, views: int | None) -> None:
    if pool is not None and pool < 1:
        raise InputError(f"pool is {pool}; expected at least 1 view per image")
    if pool is not None and views is not None and pool > views:
        raise InputError(f"pool is {pool}; expected at most the {views} views that each image has")


def _words(policy: str, pool: int | None) -> str:
    return ("" if policy == "none" else f", {policy} augment") + (
        "" if pool is None else f", {pool} views per image {APPROXIMATION}"
    )


def to_pixels(image: "Image") -> Tensor:
    """The pixels (channels, height, width) uint8 of a picture, the channels of each side by side in memory."""
    array = np.array(image)
    return torch.from_numpy(array[:, :, None] if array.ndim == 2 else array).permute(2, 0, 1)


def to_picture(pixels: Tensor) -> "Image":
    """The picture of pixels (1 or 3, height, width) uint8."""
    from PIL import Image

    array = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


@functools.lru_cache(maxsize=16)
def _augmentation(views: SeedViews) -> Any:
    from torchvision.transforms import v2

    steps: list[Any] = [
        v2.RandomResizedCrop(views.size, scale=(views.scale, 1.0), antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if views.policy == "trivial":
        steps.append(v2.TrivialAugmentWide())
    elif views.policy == "rand":
        steps.append(v2.RandAugment())
    return v2.Compose(steps)
