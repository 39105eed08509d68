"""Which images and views each step shows, and their way to the device."""

import hashlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor

from mcld.data._types import Batch, Split
from mcld.data.crew import Chunks, Workers, crew, read
from mcld.errors import InputError


class TrainLoader:
    """Shuffled batches for training; the plan of an epoch follows from (seed, epoch) alone.

    So an interrupted epoch goes on at step k by making the plan again and leaving out its first k batches, without
    reading an image. The last, smaller batch is kept, unless it is a single image: batch normalisation needs two. For
    several processes it is cut to a multiple of their number; where it has fewer than 2 images for each, some of them
    are shown again, so that there are as many steps as for one.

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
        balanced: whether an epoch shows as many images of each class: those of a small class several times, a part of
            those of a large one. It has as many images all the same.

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
        balanced: bool = False,
    ) -> None:
        _check_rank(rank, world)
        if batch_size % world or batch_size < 2 * world:
            processes = (
                f"a multiple of {world} and at least {2 * world}, for {world} devices" if world > 1 else "at least 2"
            )
            raise InputError(f"batch_size is {batch_size}; expected {processes}")
        if views < 1:
            raise InputError(f"views is {views}; expected at least 1")
        self.repeated = 0
        """Images that the last batch shows once more, so that there is one for each process that needs it."""
        full, rest = divmod(len(split), batch_size)
        if rest < 2:
            rest = 0
        elif rest < 2 * world:
            self.repeated, rest = 2 * world - rest, 2 * world
        else:
            rest -= rest % world
        self.steps_per_epoch = full + (rest > 0)
        """Batches in one epoch."""
        if self.steps_per_epoch == 0:
            raise InputError(f"there are {len(split)} training images; expected at least 2 for one step")
        self._sizes = [batch_size] * full + ([rest] if rest else [])
        self._split, self._seed, self._views, self._balanced = split, seed, views, balanced
        self._device, self._rank, self._world = torch.device(device), rank, world
        size = max(self._sizes) // world * views
        self._fetcher = _Fetcher(split, self._device, _workers(split, workers, world), size)
        self.notes = self._fetcher.notes
        if batch_size > len(split):
            self.notes += (f"batch_size is {batch_size} and there are {len(split)} training images: one step an epoch",)
        """What a person should know of how the images are read."""

    def plan(self, epoch: int) -> tuple[Tensor, Tensor]:
        """The epoch's order (N,) and the view ids (N, views) that go with it, for all processes together."""
        words = hashlib.sha256(f"{self._seed}/{epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(words[:8], "little") >> 1)
        if self._balanced:
            order = _balanced(self._split.labels.cpu(), generator)
        else:
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
        if self.repeated:
            last = torch.arange(sum(self._sizes[:-1]), len(order))
            again = last[torch.arange(self.repeated) % len(last)]
            order, view = torch.cat([order, order[again]]), torch.cat([view, view[again]])
        chunks, first = [], 0
        for step, size in enumerate(self._sizes):
            share = size // self._world
            part = slice(first + self._rank * share, first + (self._rank + 1) * share)
            if step >= start:
                chunks.append((order[part], view[part] if self._views > 1 else view[part, 0]))
            first += size
        return chunks


def _balanced(labels: Tensor, generator: torch.Generator) -> Tensor:
    """An order (N,) that shows every class equally often, give or take one, and so each image of a class."""
    classes = labels.bincount().nonzero()[:, 0]
    least, more = divmod(len(labels), len(classes))
    extra = torch.zeros(len(classes), dtype=torch.int64)
    extra[torch.randperm(len(classes), generator=generator)[:more]] = 1
    shown = []
    for label, wanted in zip(classes.tolist(), (least + extra).tolist(), strict=True):
        members = (labels == label).nonzero()[:, 0]
        rounds = -(-wanted // len(members))
        turns = [members[torch.randperm(len(members), generator=generator)] for _ in range(rounds)]
        shown.append(torch.cat([*turns, members[:0]])[:wanted])
    order = torch.cat(shown)
    return order[torch.randperm(len(order), generator=generator)]


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
    return _Fetcher(split, torch.device(device), _workers(split, workers, 1), len(chunks[0][0]))(chunks)


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
    """Turns chunks of (index, view) into batches on the device, with or without worker processes.

    Args:
        split: the images.
        device: where the batches should be.
        workers: how many may read.
        size: images in the largest chunk, each in so many views.
    """

    def __init__(self, split: Split, device: torch.device, workers: int, size: int) -> None:
        self._split, self._device = split, device
        self._pin = split.labels.device.type == "cpu" and device.type == "cuda"
        self._workers: Workers | None = None
        self.notes: tuple[str, ...] = ()
        if workers:
            plain = split.images(torch.tensor([0]), torch.tensor([split.views.center]))
            found = crew(workers, size * plain.nbytes)
            self.notes = found.notes
            self._workers = Workers(split, found, pin=self._pin)

    def __call__(self, chunks: Chunks) -> Iterator[Batch]:
        if self._workers is not None:
            for (index, view), images in zip(chunks, self._workers(chunks), strict=True):
                own, label = (index, view), self._split.labels[index]
                index, view, label = (self._to(part, pin=self._pin) for part in (index, view, label))
                yield Batch(index, view, self._to(images), label, own)
            return
        # An in-memory split on an accelerator wants its indices there: one copy per epoch instead of one per step.
        home, ids = self._split.labels.device, chunks
        if chunks and home.type != "cpu":
            sizes = [len(index) for index, _ in chunks]
            index = torch.cat([index for index, _ in chunks]).to(home)
            view = torch.cat([view for _, view in chunks]).to(home)
            chunks = list(zip(torch.split(index, sizes), torch.split(view, sizes), strict=True))
        for (index, view), own in zip(chunks, ids, strict=True):
            read_now = (index, view, read(self._split, index, view), self._split.labels[index])
            index, view, images, label = (self._to(part, pin=self._pin) for part in read_now)
            yield Batch(index, view, images, label, own)

    def _to(self, part: Tensor, *, pin: bool = False) -> Tensor:
        return (part.pin_memory() if pin else part).to(self._device, non_blocking=True)
