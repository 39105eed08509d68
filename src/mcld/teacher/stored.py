"""A teacher whose logits are read from a store, and computed where they are not there yet."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mcld.data import Batch, Split, view_batches
from mcld.methods import Outputs
from mcld.teacher.live import LiveTeacher, one_by_one, per_view
from mcld.teacher.store import LogitStore, Rows

COMMIT_BYTES = 64 * 2**20
COMMIT_SECONDS = 60.0


class StoredTeacher:
    """Gives the logits of exactly the views in a batch: from the store, or from the network and then into the store.

    Computed logits are rounded as the store rounds them, so a run sees the same numbers whether the store was empty or
    full. They are written together, at the latest when :meth:`save` is called. When that fails, the run goes on without
    writing.

    Args:
        live: the teacher itself.
        store: its logits.
        warn: takes lines for the user.

    Attributes:
        read: vectors that came from the store.
        computed: vectors that came from the network.
    """

    def __init__(self, live: LiveTeacher, store: LogitStore, warn: Callable[[str], None]) -> None:
        self.live, self.store, self.warn = live, store, warn
        self.read = self.computed = 0
        self.writing = True
        self._reported = 0
        self._saved = time.monotonic()
        self._in_vain = False

    def __call__(self, batch: Batch) -> Outputs:
        """Logits for the batch, float32, without gradient.

        Raises:
            InputError: when the teacher's logits are no numbers that the store can hold.
            ValueError: when the ids in the batch are not those of its images.
        """
        index, view = batch.ids or (batch.index.cpu(), batch.view.cpu())
        if not _same(index, batch.index) or not _same(view, batch.view):
            raise ValueError("the batch's ids are not those of its images; expected both from one loader")
        rows = self.rows(index, view)
        logits, missing = self.recall(rows, batch.image.device)
        if len(missing):
            images = one_by_one(batch.image)
            if len(missing) < len(rows):
                where = torch.from_numpy(missing).to(images.device, non_blocking=True)
                computed = self._compute(rows[missing], images[where])
                logits = logits.index_copy(0, where, computed)
            else:
                logits = self._compute(rows, images)
        return per_view(logits, view.ndim)

    def rows(self, index: Tensor, view: Tensor) -> Rows:
        """Where the views of a batch are in the store; of two views of each image the first views, then the second."""
        if view.ndim == 2:
            index, view = index.repeat(view.shape[1]), view.T.flatten()
        return self.store.rows(index, view)

    def recall(self, rows: Rows, device: torch.device) -> tuple[Tensor, Rows]:
        """Stored logits (n, C) float32 on the device, and the positions among them that are not there (m,)."""
        values, intact = self.store.read(rows)
        missing: Rows = np.flatnonzero(~intact)
        self.read += len(rows) - len(missing)
        logits = torch.from_numpy(values)
        if device.type == "cuda":
            logits = logits.pin_memory()
        return logits.to(device, non_blocking=True).float(), missing

    def share_read(self) -> float:
        """The share of the logits so far that came from the store, in [0, 1]."""
        return self.read / max(self.read + self.computed, 1)

    def save(self) -> None:
        """Write what has been computed since the last time, and tell what was found to be damaged."""
        self._saved = time.monotonic()
        if new := self.store.damaged - self._reported:
            self._reported = self.store.damaged
            self.warn(f"warning: {new:,} damaged logit vectors in {self.store.folder}; they are computed again")
        try:
            self.store.commit()
            self._in_vain = False
        except BlockingIOError as error:
            if not self._in_vain:
                self.warn(
                    f"warning: cannot write to {self.store.folder}: {error.strerror}; until it is free, what is "
                    "missing there is computed without being stored"
                )
            self._in_vain = True
        except OSError as error:
            self.writing = False
            self.warn(
                f"warning: cannot write to {self.store.folder}: {error.strerror or error}; what is missing there is "
                "from now on computed without being stored"
            )

    def _compute(self, rows: Rows, images: Tensor) -> Tensor:
        self.computed += len(rows)
        rounded = self.store.round(self.live.logits(images))
        if self.writing:
            self.store.add(rows, rounded)
            if self.store.queued > COMMIT_BYTES or time.monotonic() - self._saved > COMMIT_SECONDS:
                self.save()
        return rounded.float()


def _same(ours: Tensor, theirs: Tensor) -> bool:
    """Whether ids are the same; where an accelerator would have to be waited for, whether they are as many."""
    return ours.shape == theirs.shape and (theirs.device.type != "cpu" or torch.equal(ours, theirs))


def plain_logits(
    teacher: LiveTeacher | StoredTeacher,
    split: Split,
    device: torch.device,
    *,
    rank: int = 0,
    world: int = 1,
    workers: int | None = None,
    batch_size: int = 256,
) -> tuple[Tensor, Tensor]:
    """The teacher's logits of the plain view of every image; no image is read for logits that are stored.

    Args:
        teacher: on the device.
        split: the images.
        device: where to compute.
        rank: which process this is, from 0; it gets images rank, rank + world, rank + 2·world, …
        world: how many processes share the images.
        workers: processes that read image files; None for as many as there are cores.
        batch_size: images in one batch.

    Returns:
        The images' index (n,) and their logits (n, C) float32, both on the device.
    """
    index = torch.arange(rank, len(split), world)
    view = torch.full_like(index, split.views.center)
    missing, parts = torch.arange(len(index)), []
    known: Tensor | None = None
    if isinstance(teacher, StoredTeacher):
        known, positions = teacher.recall(teacher.rows(index, view), device)
        missing = torch.from_numpy(positions)
    for batch in view_batches(split, index[missing], view[missing], batch_size, device, workers):
        parts.append(teacher(batch).logits.float())
    teacher.save()
    index = index.to(device)
    if known is None:
        return index, torch.cat(parts)
    return index, known.index_copy(0, missing.to(device), torch.cat(parts)) if parts else known
