"""The state of a run on disk: all of it, in one file whose name carries its digest."""

import hashlib
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcld.errors import InputError
from mcld.files import atomic_write_bytes

KEEP = 2  # the newest, and one before it in case the newest is damaged


def save_checkpoint(directory: Path, epoch: int, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint, then delete all but the newest two.

    Args:
        directory: where checkpoints of the run are.
        epoch: completed epochs.
        step: completed steps of the epoch after them.
        state: nested dicts, lists, numbers, strings and tensors.

    Raises:
        InputError: when it cannot be written; earlier checkpoints are then untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {directory}: {error.strerror or error}") from error
    path = directory / f"epoch{epoch:05d}-step{step:07d}-{_digest(data)}.ckpt"
    atomic_write_bytes(path, data)
    for old in list_checkpoints(directory)[KEEP:]:
        old.unlink(missing_ok=True)
    return path


def list_checkpoints(directory: Path) -> list[Path]:
    """All checkpoints, newest first."""
    return sorted(directory.glob("epoch*-step*-*.ckpt"), reverse=True)


def load_checkpoint(directory: Path) -> tuple[dict[str, Any] | None, Path | None, list[str]]:
    """Read the newest checkpoint that is whole.

    Returns:
        Its state, its path (both None when there is no checkpoint yet), and one line for each damaged one passed over.

    Raises:
        InputError: when there are checkpoints and all are damaged.
    """
    damaged = []
    for path in list_checkpoints(directory):
        try:
            data = path.read_bytes()
        except OSError as error:
            damaged.append(f"checkpoint {path.name} cannot be read ({error.strerror})")
            continue
        if _digest(data) == path.stem.rpartition("-")[2]:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True), path, damaged
        damaged.append(f"checkpoint {path.name} is damaged (its content does not match the digest in its name)")
    if damaged:
        raise InputError(f"{'; '.join(damaged)}; none is left to go on from: start the run again with --force")
    return None, None, []


def random_state() -> dict[str, Any]:
    """The state of every random number generator of this process, in types that load safely."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put every random number generator back to :func:`random_state`."""
    torch.set_rng_state(state["torch"])
    cuda: list[Tensor] = state["cuda"]
    if len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
