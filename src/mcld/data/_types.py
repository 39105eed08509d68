"""What a data set is to the rest of the house."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from mcld.data.preprocessing import Preprocessing


class Batch(NamedTuple):
    """What the networks see in one step.

    Attributes:
        index: (B,) int64, positions of the images in their split.
        view: (B,) int64, the view ids: with the index, they alone reproduce the images. (B, V) when a step shows V
            views of each image.
        image: (B, channels, H, W) uint8, augmented but not normalised (each network normalises for itself); (B, V,
            channels, H, W) when a step shows V views of each image.
        label: (B,) int64.
        ids: index and view once more, on the CPU: to look them up there nobody waits for an accelerator. None where
            nobody made them.
    """

    index: Tensor  # type: ignore[assignment]  # a batch is never searched with tuple.index
    view: Tensor
    image: Tensor
    label: Tensor
    ids: tuple[Tensor, Tensor] | None = None


class Views(Protocol):
    """What a view id means for one split."""

    @property
    def count(self) -> int | None:
        """The number of distinct views, with ids 0 to count − 1; None where a view id is a seed (any int64 ≥ 0)."""
        ...

    @property
    def center(self) -> int:
        """The id of the plain view, without random augmentation; −1 where it is none of the drawn ones."""
        ...

    @property
    def description(self) -> str:
        """Exact words that identify the augmentation, such as ``"crop 32, padding 4, horizontal flip"``."""
        ...

    def sample(self, n: int, generator: torch.Generator, position: int = 0) -> Tensor:
        """Draw n view ids, (n,) int64, for the first view of an image in a step (position 0) or a later one."""
        ...


class Split(Protocol):
    """One split of a data set: training or validation."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64."""
        ...

    @property
    def views(self) -> Views:
        """What its view ids mean."""
        ...

    @property
    def in_memory(self) -> bool:
        """True when the images are one tensor, so that no worker processes are needed."""
        ...

    def __len__(self) -> int: ...

    def images(self, index: Tensor, view: Tensor) -> Tensor:
        """The views (B, channels, H, W) uint8 of the images at ``index`` (B,): equal ids give bit-equal images."""
        ...

    def fingerprint(self) -> str:
        """A hex digest of the content: changes when any image or label does."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """The same split with its images on the device, where they are held in memory; else itself."""
        ...

    def with_pool(self, pool: int) -> Self:
        """The same split with only so many views of each image, ids 0 to pool − 1.

        Raises:
            InputError: when there are not so many.
        """
        ...

    def with_second(self, policy: str) -> Self:
        """The same split with a further augmentation, such as ``rand``, of the second view in a step.

        Even view ids are then first views, odd ones second views.

        Raises:
            InputError: for an unknown policy.
        """
        ...


@dataclass(frozen=True)
class DataInfo:
    """What follows from the data: everything that a network has to fit.

    ``mean`` and ``std`` are per channel, for images scaled to [0, 1]; ``image_size`` is (height, width).
    ``preprocessing`` says how the plain views are made from images of any size; without it images of ``image_size`` are
    taken as they are (:attr:`plain`).
    """

    name: str
    classes: Sequence[str]
    channels: int
    image_size: tuple[int, int]
    mean: Sequence[float]
    std: Sequence[float]
    preprocessing: Preprocessing | None = None

    @property
    def plain(self) -> Preprocessing:
        """How the plain views are made."""
        return self.preprocessing or Preprocessing.to_size(self.channels, self.image_size)

    @property
    def ready(self) -> bool:
        """Whether the images are normalised already: mean 0 and deviation 1 say to take them as they are."""
        return not any(self.mean) and all(value == 1 for value in self.std)


@dataclass(frozen=True)
class DataSet:
    """A data set ready for training: its description and its two splits.

    ``notes`` are lines for the user about what was found while reading it, such as images that were skipped.
    ``split_table`` is the content of ``split.csv`` where mcld chose the split itself, for a run to keep.
    """

    info: DataInfo
    train: Split
    val: Split
    notes: tuple[str, ...] = ()
    split_table: str = ""

    def to(self, device: torch.device | str) -> "DataSet":
        """The same data set with in-memory images on the device."""
        return replace(self, train=self.train.to(device), val=self.val.to(device))
