"""Processes that read and decode images ahead."""

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mcld.data._types import Split
from mcld.data.room import free_memory, in_words, shared_memory
from mcld.data.worker import begin, starting, wake
from mcld.errors import InputError, RunError, explain

Chunks = list[tuple[Tensor, Tensor]]
_AHEAD, _SHARE = 2, 0.5
_FILES = 256


@dataclass(frozen=True)
class Crew:
    """How batches come from worker processes.

    Attributes:
        workers: how many.
        ahead: batches that each reads ahead.
        shared: by shared memory; else by pipe, which takes a little longer and no room.
        notes: what a person should know of it.
    """

    workers: int
    ahead: int
    shared: bool
    notes: tuple[str, ...] = ()


def crew(workers: int, batch: int) -> Crew:
    """As many workers as were asked for, as far as their batches have room: at most half of what is left.

    Args:
        workers: that were asked for, at least 1.
        batch: bytes of the largest batch.
    """
    notes: tuple[str, ...] = ()
    ahead, left, asked = _AHEAD, _SHARE * free_memory(), workers
    if (workers * ahead + 2) * batch > left:  # two more: one in use, and one on its way
        ahead = 1
        workers = max(1, min(workers, int(left // batch) - 2))
        if workers < asked:
            notes += (
                f"{workers} of {asked} workers read images: a batch has {in_words(batch)}, and "
                f"{in_words(free_memory())} of memory are free",
            )
    room = shared_memory()
    shared = _open_files() >= _FILES and (room is None or (workers * ahead + 2) * batch <= _SHARE * room)
    if not shared and room is not None and _open_files() >= _FILES:
        notes += (
            f"workers send images by pipe: {workers * ahead + 2} batches of {in_words(batch)} are on their way, and "
            f"/dev/shm has {in_words(room)} left (containers: --shm-size)",
        )
    return Crew(workers, ahead, shared, notes)


class Workers:
    """Reads chunks of a split in worker processes, in order; they end with this object, or with the process.

    Args:
        split: the images.
        crew: how.
        pin: whether batches should be in pinned memory.
    """

    def __init__(self, split: Split, crew: Crew, *, pin: bool) -> None:
        self._sampler = _Sampler()
        self._loader: DataLoader[Any] = DataLoader(
            _Reader(split, shared=crew.shared),
            batch_size=None,
            sampler=self._sampler,
            collate_fn=_as_it_is,
            num_workers=crew.workers,
            pin_memory=pin,
            persistent_workers=True,
            prefetch_factor=crew.ahead,
            worker_init_fn=begin,
            # its own generator: without one, starting an epoch would draw from the process's random numbers
            generator=torch.Generator(),
        )
        weakref.finalize(self, wake)  # before the loader, or Python at its end, waits for them

    def __call__(self, chunks: Chunks) -> Iterator[Tensor]:
        """The images of each chunk.

        Raises:
            InputError: naming the file, when one is gone or damaged.
            RunError: when a worker has died.
        """
        self._sampler.chunks = chunks
        try:
            with starting():
                items = iter(self._loader)
            for item in items:
                if isinstance(item, InputError):
                    raise item
                yield item if isinstance(item, Tensor) else torch.from_numpy(item)
        except (RuntimeError, ConnectionError, EOFError) as error:
            # The latter two come from a worker that dies while it hands over a batch, before torch knows of its end.
            dead = error if isinstance(error, RuntimeError) else RuntimeError("DataLoader worker exited unexpectedly")
            message, _, known = explain(dead)
            if known and not isinstance(error, RunError):
                raise RunError(message) from error
            raise


def read(split: Split, index: Tensor, view: Tensor) -> Tensor:
    """The views (B, ...) of images, or (B, V, ...) for view ids (B, V)."""
    if view.ndim == 1:
        return split.images(index, view)
    images = split.images(index.repeat_interleave(view.shape[1]), view.flatten())
    return images.view(*view.shape, *images.shape[1:])


def _as_it_is(item: Any) -> Any:
    """In place of torch's own, which would make tensors of arrays, and tensors travel by shared memory."""
    return item


class _Sampler:
    """The chunks of the epoch at hand: the loader asks again at the start of each.

    As lists, since every tensor sent to a worker would hold a file descriptor. It must not refer to its loader: one
    in a reference cycle is torn down by the garbage collector, which keeps worker processes waiting for seconds.
    """

    def __init__(self) -> None:
        self.chunks: Chunks = []

    def __iter__(self) -> Iterator[tuple[list[int], list[Any]]]:
        return ((index.tolist(), view.tolist()) for index, view in self.chunks)

    def __len__(self) -> int:
        return len(self.chunks)


class _Reader(Dataset[Any]):
    """Reads one chunk, in a worker process."""

    def __init__(self, split: Split, *, shared: bool) -> None:
        self._split, self._shared = split, shared

    def __getitem__(self, chunk: tuple[list[int], list[Any]]) -> Tensor | NDArray[Any] | InputError:
        try:
            images = read(self._split, torch.tensor(chunk[0]), torch.tensor(chunk[1]))
        except InputError as error:  # as a value: raised here, it would arrive wrapped in a page of traceback
            return error
        if self._shared:
            # Here and not when it is sent: a batch for which there was no room then would be lost, and waited for.
            with contextlib.suppress(RuntimeError):
                images.share_memory_()  # type: ignore[no-untyped-call]  # torch's own
                return images
        return images.numpy()


def _open_files() -> int:
    """How many files this process may hold open."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return _FILES
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _FILES if soft == resource.RLIM_INFINITY else soft
