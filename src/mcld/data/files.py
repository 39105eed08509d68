"""Splits whose images are files, decoded when they are needed."""

import hashlib
import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mcld.data.cache import remembered
from mcld.data.decoded import DecodedImages
from mcld.data.images import PLAIN, Reading, read_image
from mcld.data.memory import channel_stats
from mcld.data.views import SeedViews, TwoKinds, second_kind


@dataclass(frozen=True)
class FileSplit:
    """Image files of any size, with seeded views.

    Attributes:
        root: the folder that the files are relative to.
        files: relative paths, one per image.
        labels: (N,) int64.
        views: how a view is made from a decoded image.
        content: a digest of what the files hold.
        decoded: their decoded pixels, where they are kept; the views are the same without.
        reading: how a file is decoded.
    """

    root: str
    files: tuple[str, ...]
    labels: Tensor
    views: SeedViews | TwoKinds[SeedViews]
    content: str
    decoded: DecodedImages | None = None
    reading: Reading = PLAIN

    @property
    def in_memory(self) -> bool:
        """False: worker processes pay off."""
        return False

    def __len__(self) -> int:
        return len(self.files)

    def images(self, index: Tensor, view: Tensor) -> Tensor:
        """The views (B, channels, size, size) uint8 of the images at ``index`` (B,), on the CPU.

        Raises:
            InputError: naming the file, when one is gone or damaged.
        """
        return torch.stack([self._view(i, v) for i, v in zip(index.tolist(), view.tolist(), strict=True)])

    def _view(self, index: int, view: int) -> Tensor:
        views = self.views
        if isinstance(views, TwoKinds):
            views, view = views.part(view)
        if self.decoded is not None and (pixels := self.decoded.read(index)) is not None:
            return views.render(pixels, index, view)
        path = os.path.join(self.root, self.files[index])  # noqa: PTH118
        return views.render(read_image(path, views.mode, self.reading), index, view)

    def fingerprint(self) -> str:
        """A hex digest of the files' content, their labels, grey or colour, and the depth of their pixels."""
        mode = self.views.first.mode if isinstance(self.views, TwoKinds) else self.views.mode
        depth = f"/{self.reading.depth}" if self.reading.depth else ""
        digest = hashlib.sha256(f"{self.content}/{len(self)}/{mode}{depth}".encode())
        digest.update(self.labels.numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> "FileSplit":  # noqa: ARG002
        """Itself: files stay where they are."""
        return self

    def with_pool(self, pool: int) -> "FileSplit":
        """The same images, each with ``pool`` views only.

        Raises:
            InputError: when there are not so many.
        """
        return replace(self, views=self.views.with_pool(pool))

    def with_second(self, policy: str) -> "FileSplit":
        """The same images, the second of two views of each augmented by a policy of its own.

        Raises:
            InputError: for an unknown policy.
        """
        return replace(self, views=second_kind(self.views, policy))


def file_stats(split: FileSplit, limit: int = 2000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel over the plain views of up to ``limit`` images, drawn with seed 0.

    Remembered in the user's cache, since decoding them takes seconds.
    """

    def compute() -> dict[str, Any]:
        chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:limit]
        mean, std = channel_stats(split.images(chosen, torch.full_like(chosen, split.views.center)))
        return {"mean": mean, "std": std}

    key = hashlib.sha256(f"{split.fingerprint()}/{split.views.description}/{limit}/2".encode()).hexdigest()
    found = remembered("stats", key, compute)
    return tuple(found["mean"]), tuple(found["std"])
