"""Which images and views each step shows, and their way to the device."""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mcld.data._types import Batch, Split
from mcld.errors import InputError

_Chunks = list[tuple[Tensor, Tensor]]


class TrainLoader:
    """Shuffled batches for training; the plan of an epoch follows from (seed, epoch) alone.

    So an interrupted epoch goes on at step k by making the plan again and leaving out its first k batches, without
    reading an image. The last, smaller batch is kept, cut to a multiple of the number of processes, and left out when
    it would hold fewer than 2 images for each (batch normalisation needs two).

    Args:
        split: the training images.
        batch_size: images in one step, all processes together.
        seed: of the order and of the views.
        device: where the batches should be.
        rank: which process this is, from 0.
        world: how many processes share every batch; each gets one contiguous part of it.
        workers: processes that decode images ahead; None for as many as there are cores for, at most 8. Splits in
            memory need none.
        views: views of each image in one step.

    Raises:
        InputError: when the batch cannot be shared, or the split is too small for one step.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
        views: int = 1,
    ) -> None:
        _check_rank(rank, world)
        if batch_size % world or batch_size < 2 * world:
            processes = (
                f"a multiple of {world} and at least {2 * world}, for {world} devices" if world > 1 else "at least 2"
            )
            raise InputError(f"batch_size is {batch_size}; expected {processes}")
        if views < 1:
            raise InputError(f"views is {views}; expected at least 1")
        full, rest = divmod(len(split), batch_size)
        rest -= rest % world
        if rest < 2 * world:
            rest = 0
        self.steps_per_epoch = full + (rest > 0)
        """Batches in one epoch."""
        if self.steps_per_epoch == 0:
            raise InputError(f"there are {len(split)} training images; expected at least {2 * world} for one step")
        self._sizes = [batch_size] * full + ([rest] if rest else [])
        self._split, self._seed, self._views = split, seed, views
        self._device, self._rank, self._world = torch.device(device), rank, world
        self._fetcher = _Fetcher(split, self._device, _workers(split, workers, world))

    def plan(self, epoch: int) -> tuple[Tensor, Tensor]:
        """The epoch's order (N,) and the view ids (N, views) that go with it, for all processes together."""
        words = hashlib.sha256(f"{self._seed}/{epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(words[:8], "little") >> 1)
        order = torch.randperm(len(self._split), generator=generator)
        views = self._split.views
        return order, torch.stack([views.sample(len(order), generator, v) for v in range(self._views)], dim=1)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step ``start`` on: this process's part of each.

        Raises:
            InputError: naming the file, when an image has gone or been damaged since the start.
        """
        return self._fetcher(self.chunks(epoch, start))

    def chunks(self, epoch: int, start: int = 0) -> list[tuple[Tensor, Tensor]]:
        """What :meth:`epoch` shows: the (index, view) of each of its batches, on the CPU."""
        order, view = self.plan(epoch)
        chunks, first = [], 0
        for step, size in enumerate(self._sizes):
            share = size // self._world
            part = slice(first + self._rank * share, first + (self._rank + 1) * share)
            if step >= start:
                chunks.append((order[part], view[part] if self._views > 1 else view[part, 0]))
            first += size
        return chunks


def eval_batches(
    split: Split,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world: int = 1,
    workers: int | None = None,
) -> Iterator[Batch]:
    """Every image once, over all processes, in its plain view and in order.

    Args:
        split: the images.
        batch_size: images in one batch of one process.
        device: where the batches should be.
        rank: which process this is, from 0; it gets images rank, rank + world, rank + 2·world, …
        world: how many processes share the images.
        workers: as in :class:`TrainLoader`.
    """
    _check_rank(rank, world)
    index = torch.arange(rank, len(split), world)
    view = torch.full_like(index, split.views.center)
    return view_batches(split, index, view, batch_size, device, _workers(split, workers, world))


def view_batches(
    split: Split,
    index: Tensor,
    view: Tensor,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> Iterator[Batch]:
    """Chosen views, in order.

    Args:
        split: the images.
        index: (n,) of the images, on the CPU.
        view: (n,) of the view ids, on the CPU.
        batch_size: images in one batch.
        device: where the batches should be.
        workers: as in :class:`TrainLoader`.
    """
    if len(index) == 0:  # torch.split of an empty tensor would still return one empty chunk
        return iter(())
    chunks = list(zip(torch.split(index, batch_size), torch.split(view, batch_size), strict=True))
    return _Fetcher(split, torch.device(device), _workers(split, workers, 1))(chunks)


def _check_rank(rank: int, world: int) -> None:
    if world < 1 or not 0 <= rank < world:
        raise InputError(f"rank is {rank} of {world} processes; expected 0 to {world - 1}")


def _workers(split: Split, workers: int | None, world: int) -> int:
    if split.in_memory:
        return 0
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(8, max(1, cores // world))
    return workers


class _Fetcher:
    """Turns chunks of (index, view) into batches on the device, with or without worker processes."""

    def __init__(self, split: Split, device: torch.device, workers: int) -> None:
        self._split, self._device = split, device
        self._sampler = _Sampler()
        self._loader: DataLoader[Any] | None = None
        if workers:
            self._loader = DataLoader(
                _Reader(split),
                batch_size=None,
                sampler=self._sampler,
                num_workers=workers,
                pin_memory=device.type == "cuda",
                persistent_workers=True,
                prefetch_factor=2,
                # its own generator: without one, starting an epoch would draw from the process's random numbers
                generator=torch.Generator(),
            )

    def __call__(self, chunks: _Chunks) -> Iterator[Batch]:
        if self._loader is not None:
            self._sampler.chunks = chunks
            for item in self._loader:
                if isinstance(item, InputError):
                    raise item
                yield Batch(*(part.to(self._device, non_blocking=True) for part in item))
            return
        # An in-memory split on an accelerator wants its indices there: one copy per epoch instead of one per step.
        home = self._split.labels.device
        if chunks and home.type != "cpu":
            sizes = [len(index) for index, _ in chunks]
            index = torch.cat([index for index, _ in chunks]).to(home)
            view = torch.cat([view for _, view in chunks]).to(home)
            chunks = list(zip(torch.split(index, sizes), torch.split(view, sizes), strict=True))
        pin = home.type == "cpu" and self._device.type == "cuda"
        for index, view in chunks:
            batch = _read(self._split, index, view)
            yield Batch(*((part.pin_memory() if pin else part).to(self._device, non_blocking=True) for part in batch))


class _Sampler:
    """The chunks of the epoch at hand: the loader asks again at the start of each.

    As lists, since every tensor sent to a worker would hold a file descriptor. It must not refer to its loader: one
    in a reference cycle is torn down by the garbage collector, which keeps worker processes waiting for seconds.
    """

    def __init__(self) -> None:
        self.chunks: _Chunks = []

    def __iter__(self) -> Iterator[tuple[list[int], list[Any]]]:
        return ((index.tolist(), view.tolist()) for index, view in self.chunks)

    def __len__(self) -> int:
        return len(self.chunks)


class _Reader(Dataset[Any]):
    """Reads one chunk, in a worker process."""

    def __init__(self, split: Split) -> None:
        self._split = split

    def __getitem__(self, chunk: tuple[list[int], list[Any]]) -> Batch | InputError:
        try:
            return _read(self._split, torch.tensor(chunk[0]), torch.tensor(chunk[1]))
        except InputError as error:  # as a value: raised here, it would arrive wrapped in a page of traceback
            return error


def _read(split: Split, index: Tensor, view: Tensor) -> Batch:
    if view.ndim == 1:
        return Batch(index, view, split.images(index, view), split.labels[index])
    images = split.images(index.repeat_interleave(view.shape[1]), view.flatten())
    return Batch(index, view, images.view(*view.shape, *images.shape[1:]), split.labels[index])
