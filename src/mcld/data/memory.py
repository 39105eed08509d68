"""Splits held in memory as one uint8 tensor."""

import copy
import hashlib

import numpy as np
import torch
from torch import Tensor

from mcld.data._types import DataInfo, DataSet
from mcld.data.options import DataOptions
from mcld.data.views import CropFlip, TwoKinds, second_kind
from mcld.errors import InputError


class TensorSplit:
    """Images of one size, held as one tensor on the CPU or on an accelerator.

    Args:
        images: (N, channels, H, W) uint8.
        labels: (N,) int64, on the same device.
        views: the crops and flips to draw from, for images of this size.

    Raises:
        InputError: when the shapes or types do not fit together.
    """

    in_memory = True

    def __init__(self, images: Tensor, labels: Tensor, views: CropFlip) -> None:
        if images.ndim != 4 or images.dtype is not torch.uint8:
            raise InputError(f"images are {images.dtype} {tuple(images.shape)}; expected uint8 (N, channels, H, W)")
        if labels.shape != images.shape[:1] or labels.dtype is not torch.int64:
            raise InputError(
                f"labels are {labels.dtype} {tuple(labels.shape)}; expected int64 ({images.shape[0]},), one per image"
            )
        if tuple(images.shape[2:]) != views.size:
            raise InputError(f"images are {tuple(images.shape[2:])} pixels and the views are for {views.size}")
        self.views: CropFlip | TwoKinds[CropFlip] = views
        self.labels = labels
        self._padding = views.padding
        self._padded = views.pad(images).contiguous()
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return self.labels.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self._padded.device

    @property
    def raw(self) -> Tensor:
        """The images as they are, (N, channels, H, W) uint8."""
        p = self._padding
        return self._padded[:, :, p : self._padded.shape[2] - p, p : self._padded.shape[3] - p]

    def images(self, index: Tensor, view: Tensor) -> Tensor:
        """The views (B, channels, H, W) uint8 of the images at ``index`` (B,), on the split's device."""
        device, views = self.device, self.views
        index, view = index.to(device, non_blocking=True), view.to(device, non_blocking=True)
        if isinstance(views, CropFlip):
            return views.apply(self._padded, index, view)
        later, plain, part = view % 2 == 1, view < 0, view >> 1
        first = views.first.apply(self._padded, index, part.masked_fill(later, views.first.center))
        second = views.second.apply(self._padded, index, part.masked_fill(plain | ~later, views.second.center))
        return torch.where(later[:, None, None, None], second, first)

    def fingerprint(self) -> str:
        """A hex digest of the images and labels."""
        if self._fingerprint is None:
            digest = hashlib.sha256(repr(tuple(self.raw.shape)).encode())
            for chunk in torch.split(self.raw, 4096):
                digest.update(chunk.cpu().contiguous().numpy().data)
            digest.update(self.labels.cpu().numpy().data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def to(self, device: torch.device | str) -> "TensorSplit":
        """The same split on the device; itself when it is there already."""
        target = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"
        if target == self.device:
            return self
        moved = copy.copy(self)
        moved.labels, moved._padded = self.labels.to(target), self._padded.to(target)
        return moved

    def with_pool(self, pool: int) -> "TensorSplit":
        """The same images, each with ``pool`` views only.

        Raises:
            InputError: when there are not so many.
        """
        return self._with_views(self.views.with_pool(pool))

    def with_second(self, policy: str) -> "TensorSplit":
        """The same images, the second of two views of each augmented by a policy of its own.

        Raises:
            InputError: for an unknown policy.
        """
        return self._with_views(second_kind(self.views, policy))

    def _with_views(self, views: CropFlip | TwoKinds[CropFlip]) -> "TensorSplit":
        other = copy.copy(self)
        other.views = views
        return other


def channel_stats(images: Tensor, limit: int = 10_000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images (N, channels, H, W), scaled to [0, 1].

    Over all pixels of all images, or of ``limit`` images evenly spread over them. A constant channel gets the deviation
    1, so that dividing by it is harmless.
    """
    step = max(1, -(-images.shape[0] // limit))
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for chunk in torch.split(images[::step], 1024):
        for channel, count in zip(chunk.unbind(1), counts, strict=True):
            count += np.bincount(channel.flatten().numpy(), minlength=256)
    levels, share = np.arange(256) / 255, counts / counts.sum(1, keepdims=True)
    mean = share @ levels
    std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 0))
    std[std < 1e-6] = 1.0
    return tuple(round(float(m), 4) for m in mean), tuple(round(float(s), 4) for s in std)


def tensor_data(
    name: str,
    classes: list[str],
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    *,
    padding: int,
    flip: bool,
    options: DataOptions,
    stats: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    notes: tuple[str, ...] = (),
) -> DataSet:
    """A data set of two in-memory splits, each (images (N, channels, H, W) uint8, labels (N,) int64).

    ``options`` say how training images are augmented. Statistics are those of the training images unless given.
    """
    images = train[0]
    size = (images.shape[2], images.shape[3])
    plain = CropFlip(size, padding=0, flip=False)
    mean, std = stats or channel_stats(images)
    return DataSet(
        info=DataInfo(name, tuple(classes), images.shape[1], size, mean, std),
        train=TensorSplit(*train, CropFlip(size, padding, flip, options.policy) if options.augment else plain),
        val=TensorSplit(*val, plain),
        notes=notes,
    )
