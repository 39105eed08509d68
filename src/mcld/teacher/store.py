"""The teacher's logits on disk: computed once for each view of each image, then read by every run that asks."""

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcld.data import Split
from mcld.errors import InputError
from mcld.files import (
    atomic_write_text,
    is_temporary,
    lock_file,
    open_descriptor,
    open_regular,
    read_file,
    replacing,
)
from mcld.models import Network

Rows = npt.NDArray[np.int64]
Values = npt.NDArray[Any]
MARK = np.dtype("<u4")
PATIENCE = 10.0
"""Seconds to wait for another process that writes to the same store."""
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


@dataclass(frozen=True)
class Header:
    """What a store holds: it serves nothing else.

    Attributes:
        architecture: of the teacher.
        options: of the architecture.
        mean: of the teacher's normalisation, per channel.
        std: of the teacher's normalisation, per channel.
        weights: the digest of the teacher's weights.
        data: the name of the data set.
        split: ``training``, ``validation`` or ``test``.
        fingerprint: of the split.
        views: exact words for what a view id means.
        images: of the split.
        views_per_image: distinct views, the plain one included.
        classes: logits of one view.
        storage: ``fp16`` or ``fp32``, little-endian.
        precision: of the teacher's arithmetic: ``32``, ``bf16`` or ``16-mixed``.
        format: of these files.
    """

    architecture: str
    options: dict[str, Any]
    mean: list[float]
    std: list[float]
    weights: str
    data: str
    split: str
    fingerprint: str
    views: str
    images: int
    views_per_image: int
    classes: int
    storage: str
    precision: str
    format: int = 1

    @classmethod
    def of(cls, teacher: Network, data: str, kind: str, split: Split, *, storage: str, precision: str) -> "Header":
        """The header of the store for one teacher and one split, whose views must be finite."""
        spec, views = teacher.spec, split.views
        assert views.count is not None
        options = {name: value for name, value in spec.options.items() if name != "pretrained"}  # the weights say it
        return cls(
            architecture=spec.architecture,
            options={**options, "reused": spec.reused} if spec.reused else options,
            mean=list(spec.mean),
            std=list(spec.std),
            weights=teacher.digest(),
            data=data,
            split=kind,
            fingerprint=split.fingerprint(),
            views=views.description,
            images=len(split),
            views_per_image=views.count + (views.center < 0),
            classes=spec.num_classes,
            storage=storage,
            precision=precision,
        )

    @property
    def rows(self) -> int:
        """Views of all images."""
        return self.images * self.views_per_image

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one logit in the file."""
        return np.dtype({"fp16": "<f2", "fp32": "<f4"}[self.storage])

    @property
    def size(self) -> int:
        """Bytes of a store that holds every view."""
        return self.rows * (self.classes * self.dtype.itemsize + MARK.itemsize)

    def key(self) -> str:
        """A digest of all of it, short enough for a folder's name."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def differences(self, other: dict[str, Any]) -> list[str]:
        """What is not the same in the header of a store, with both values."""
        lines = []
        for name, value in dataclasses.asdict(self).items():
            if other.get(name) != value:
                lines.append(f"{name} {_short(other.get(name))} instead of {_short(value)}")
        return lines


class _DamagedError(InputError):
    """A store whose files cannot be right."""


class LogitStore:
    """A folder with one logit vector for each view of each image of a split, as far as they have been computed.

    ===============  ==============================================================================================
    ``header.json``  the :class:`Header`
    ``logits.bin``   (images, views, classes), sparse: what has not been written takes no room
    ``marks.bin``    (images, views) uint32, not sparse: 0 where there is nothing yet, else the CRC-32 of the vector's
                     bytes, seeded with its row number (1 where that is 0)
    ``lock``         held while writing
    ===============  ==============================================================================================

    A mark is written only once its vector is on disk, and is checked at every reading. So neither a process or a
    machine that dies in the middle, nor a damaged disk, can make a wrong vector readable: it counts as absent and is
    computed again. Several processes may use one store at the same time: writers take turns, and what is there already
    is not written again. Reading is by memory map, writing is not: a full disk is then an error and not a signal.

    Args:
        folder: of the store; made when it does not exist.
        header: what it has to hold.
        rebuild: make a store anew that cannot be right: for those that we named ourselves.
        tell: takes lines for the user.

    Attributes:
        damaged: vectors whose check failed, so far.
        give_up: asked while waiting for another process that writes whether to stop.
        patience: seconds to wait for it; none once that was in vain, until it has gone.

    Raises:
        InputError: when the folder holds anything else, with what differs, or it cannot be made or read.
    """

    def __init__(
        self, folder: Path, header: Header, *, rebuild: bool = False, tell: Callable[[str], None] | None = None
    ) -> None:
        if os.name != "posix":
            raise InputError("a store of teacher logits needs a POSIX system; expected teacher.store=off here")
        self.folder, self.header = folder, header
        self._logits_file, self._marks_file = folder / "logits.bin", folder / "marks.bin"
        self.give_up: Callable[[], bool] = lambda: False
        self.patience = PATIENCE
        self._tell = tell
        try:
            if not (folder / "header.json").exists():
                self._create()
            try:
                self._check()
            except _DamagedError as error:
                if not rebuild:
                    raise
                self._create(anew=True)
                self._check()
                if tell is not None:
                    tell(f"warning: {str(error).partition('; delete')[0].partition(': delete')[0]}; it was made anew")
            shape = (header.rows, header.classes)
            with open_regular(self._marks_file, follow=False) as file:
                self._marks = np.asarray(np.memmap(file, MARK, "r", shape=shape[:1]))
            with open_regular(self._logits_file, follow=False) as file:
                self._logits = np.asarray(np.memmap(file, header.dtype, "r", shape=shape))
        except OSError as error:
            raise InputError(f"store {folder} cannot be used: {error.strerror or error}") from error
        self._queue: list[tuple[Rows, Tensor]] = []
        self.queued = 0
        self.damaged = 0

    def rows(self, index: Tensor, view: Tensor) -> Rows:
        """The row numbers of views (n,), from CPU tensors. The plain view has the last place where its id is −1."""
        views = self.header.views_per_image
        row: Rows = (index * views + torch.where(view < 0, views - 1, view)).numpy()
        return row

    def views(self, rows: Rows, center: int) -> tuple[Tensor, Tensor]:
        """The images (n,) and view ids (n,) of some rows: the inverse of :meth:`rows`, given the plain view's id."""
        index, view = (torch.from_numpy(part) for part in np.divmod(rows, self.header.views_per_image))
        return index, torch.where(view == self.header.views_per_image - 1, center, view) if center < 0 else view

    def read(self, rows: Rows) -> tuple[Values, npt.NDArray[np.bool_]]:
        """The vectors (n, classes) of some rows, and (n,) which of them are there and intact."""
        marks = self._marks[rows]
        there = marks != 0
        intact = there.copy()
        if there.all():
            values = self._logits[rows]
        else:  # what was never written is not touched: on a full disk in memory the kernel would end the process
            values = np.zeros((len(rows), self.header.classes), self.header.dtype)
            values[there] = self._logits[rows[there]]
        intact[there] = self._sums(rows[there], values[there]) == marks[there]
        self.damaged += int(there.sum() - intact.sum())
        return values, intact

    def absent(self, start: int, stop: int) -> Rows:
        """The rows from ``start`` to ``stop`` that have not been computed yet; nothing is checked."""
        found: Rows = np.flatnonzero(self._marks[start:stop] == 0) + start
        return found

    def filled(self) -> int:
        """How many vectors are there; nothing is checked."""
        return int(np.count_nonzero(self._marks))

    def round(self, logits: Tensor) -> Tensor:
        """Logits as they would be read back, but for their type.

        Raises:
            InputError: when one of them is too large for the store (looked for on the CPU only, as an accelerator
                would have to wait; :meth:`commit` looks again).
        """
        return round_logits(logits, self.header.storage)

    def add(self, rows: Rows, logits: Tensor) -> None:
        """Queue vectors (n, classes), as from :meth:`round`, to be written at the next :meth:`commit`."""
        self._queue.append((rows, logits))
        self.queued += logits.numel() * logits.element_size()

    def commit(self) -> None:
        """Write what is queued: the vectors, then, when those are on disk, their marks. The queue is empty afterwards.

        Raises:
            InputError: when a logit is no finite number.
            OSError: when the disk is full or cannot be written; what was there before is untouched.
        """
        queue, self._queue, self.queued = self._queue, [], 0
        if not queue:
            return
        rows, first = np.unique(np.concatenate([rows for rows, _ in queue]), return_index=True)
        logits = torch.cat([logits for _, logits in queue]).cpu()
        check_finite(logits, self.header.storage)
        values = logits.numpy().astype(self.header.dtype, copy=False)[first]
        with self._locked():
            damaged = self.damaged
            new = ~self.read(rows)[1]  # another run may have been faster
            self.damaged = damaged
            rows, values = rows[new], values[new]
            self._write(self._logits_file, rows, values)
            self._write(self._marks_file, rows, self._sums(rows, values))

    def forget(self, rows: Rows) -> None:
        """Make vectors absent.

        Raises:
            OSError: when the store cannot be written.
        """
        with self._locked():
            self._write(self._marks_file, np.sort(rows), np.zeros(len(rows), MARK))

    def _create(self, *, anew: bool = False) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        others = sorted({p.name for p in self.folder.iterdir()} - {"lock", "logits.bin", "marks.bin", "header.json"})
        others = [name for name in others if not name.startswith(".header.json.") and not is_temporary(name)]
        if others:
            raise InputError(f"store {self.folder} holds other files ({others[0]}); choose another folder")
        with self._locked():
            if (self.folder / "header.json").exists():
                with contextlib.suppress(_DamagedError):
                    self._check()
                    anew = False
                if not anew:  # another run was faster
                    return
                (self.folder / "header.json").unlink()
            for left in self.folder.glob(".header.json.*.tmp"):
                left.unlink(missing_ok=True)
            for file, size in self._sizes().items():
                with replacing(file) as opened:  # another run may still be reading the old file
                    if file == self._marks_file:
                        opened.write(bytes(size))
                    else:
                        opened.truncate(size)
            text = json.dumps(dataclasses.asdict(self.header), indent=2, ensure_ascii=False)
            atomic_write_text(self.folder / "header.json", text + "\n")  # last: it is what makes the folder a store

    def _check(self) -> None:
        path = self.folder / "header.json"
        try:
            found = json.loads(read_file(path, 2**20, follow=False))
        except (ValueError, RecursionError) as error:
            raise _DamagedError(f"{path} is damaged ({error}); delete the folder to start it anew") from error
        if not isinstance(found, dict):
            raise _DamagedError(f"{path} is damaged (it holds no JSON object); delete the folder to start it anew")
        if different := self.header.differences(found):
            raise _DamagedError(
                f"store {self.folder} holds other logits: {', '.join(different)}; choose another folder, or auto"
            )
        for file, size in self._sizes().items():
            if not file.exists():
                raise _DamagedError(f"{file} is missing; delete the folder to start it anew")
            if file.stat().st_size != size:
                raise _DamagedError(
                    f"{file} has {file.stat().st_size:,} bytes; expected {size:,}: delete the folder to start it anew"
                )

    def _sizes(self) -> dict[Path, int]:
        header = self.header
        return {
            self._logits_file: header.rows * header.classes * header.dtype.itemsize,
            self._marks_file: header.rows * MARK.itemsize,
        }

    def _sums(self, rows: Rows, values: Values) -> npt.NDArray[np.uint32]:
        """The marks of whole vectors."""
        size = self.header.classes * self.header.dtype.itemsize
        data = values.tobytes()
        sums = [
            zlib.crc32(data[at : at + size], row & 0xFFFFFFFF) or 1
            for at, row in zip(range(0, len(data), size), rows.tolist(), strict=True)
        ]
        return np.array(sums, dtype=MARK)

    def _write(self, file: Path, rows: Rows, values: npt.NDArray[Any]) -> None:
        """Write one item for each of some ascending rows, neighbours at once, and wait until they are on disk."""
        if len(rows) == 0:
            return
        descriptor = open_descriptor(file, os.O_WRONLY, follow=False)
        try:
            size = values.nbytes // len(rows)
            starts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
            data = memoryview(values.tobytes())
            for start, stop in itertools.pairwise(starts):
                part, at = data[start * size : stop * size], int(rows[start]) * size
                while part:
                    written = os.pwrite(descriptor, part, at)
                    if written == 0:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    part, at = part[written:], at + written
            _sync(descriptor)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        def waiting(whom: str) -> None:
            if self._tell is not None:
                self._tell(f"waiting for {whom}, which is writing to {self.folder}")

        patience, self.patience = self.patience, 0.0
        lock = lock_file(self.folder / "lock", patience=patience, waiting=waiting, give_up=self.give_up)
        with lock:
            self.patience = patience or PATIENCE
            yield


def round_logits(logits: Tensor, storage: str) -> Tensor:
    """Logits as they would be read back from a store of ``fp16`` or ``fp32``, but for their type.

    Raises:
        InputError: when one of them is too large for it (looked for on the CPU only, as an accelerator would have to
            wait).
    """
    rounded = logits.to(torch.float16 if storage == "fp16" else torch.float32)
    if rounded.device.type == "cpu":
        check_finite(rounded, storage)
    return rounded


def check_finite(logits: Tensor, storage: str) -> None:
    """Check logits that were rounded for a store.

    Raises:
        InputError: when one is no finite number.
    """
    if not bool(torch.isfinite(logits).all()):
        hint = "; they may be too large for 16 bits: teacher.store_precision=32, or off: teacher.store=off"
        raise InputError(f"logits of the teacher are not finite{hint if storage == 'fp16' else ''}")


def _short(value: Any) -> str:
    text = str(value)
    digest = len(text) == 64 and all(c in "0123456789abcdef" for c in text)
    return f"{text[:12]}…" if digest else repr(value) if isinstance(value, str) else text
