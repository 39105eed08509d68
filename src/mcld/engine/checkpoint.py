"""The state of a run on disk: all of it, in one file whose name carries its digest."""

import hashlib
import io
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcld.errors import InputError
from mcld.files import MORE, atomic_write_bytes, largest_file, read_file
from mcld.models._reading import unpickle

KEEP = 2  # the newest, and one before it in case the newest is damaged
ROW = frozenset({"epoch", "loss", "val_top1", "val_top5", "images_per_second"})
"""What every row of the history has, among others."""
_NAME = re.compile(r"epoch(\d{1,18})-step(\d{1,18})-[0-9a-f]{16}\.ckpt")
_KINDS: dict[str, Any] = {
    "epoch": int,
    "step": int,
    "seconds": int | float,
    "history": list,
    "best": dict,
    "student": dict,
    "method": dict,
    "optimizer": dict,
    "precision": dict,
    "ranks": list,
}


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
    # What lies further ahead is none of this run's, or was refused when it went on from an earlier one.
    earlier = [old for old in list_checkpoints(directory) if _place(old) < (epoch, step)]
    for old in list_checkpoints(directory):
        if old != path and old not in earlier[: KEEP - 1]:
            old.unlink(missing_ok=True)
    return path


def keep_newest(directory: Path) -> None:
    """Delete all checkpoints but the newest: of a finished run, whose weights are there besides."""
    for old in list_checkpoints(directory)[1:]:
        old.unlink(missing_ok=True)


def list_checkpoints(directory: Path) -> list[Path]:
    """All checkpoints, newest first."""
    found = [path for path in directory.glob("epoch*-step*-*.ckpt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (_place(path), path.name), reverse=True)


def load_checkpoint(directory: Path) -> tuple[dict[str, Any] | None, Path | None, list[str]]:
    """Read the newest checkpoint that is whole.

    Returns:
        Its state, its path (both None when there is no checkpoint yet), and one line for each damaged one passed over.

    Raises:
        InputError: when there are checkpoints and all are damaged.
    """
    damaged: list[str] = []
    for path in list_checkpoints(directory):
        try:
            return read_checkpoint(path), path, damaged
        except InputError as error:
            damaged.append(str(error))
    if damaged:
        raise none_left(damaged)
    return None, None, []


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint.

    Raises:
        InputError: when it is damaged, or nothing that :func:`save_checkpoint` wrote.
    """
    try:
        data = read_file(path, largest_file(), MORE, follow=False)
    except OSError as error:
        raise InputError(f"checkpoint {path.name} cannot be read ({error.strerror or error})") from error
    if _digest(data) != path.stem.rpartition("-")[2]:
        raise InputError(f"checkpoint {path.name} is damaged (its content does not match the digest in its name)")
    try:
        state = unpickle(data, path)
    except InputError as error:
        raise InputError(f"checkpoint {path.name} is none of mcld's ({error})") from error
    if reason := _wrong(state, *_place(path)):
        raise InputError(f"checkpoint {path.name} is none of mcld's ({reason})")
    return dict(state)


def none_left(damaged: Sequence[object]) -> InputError:
    """The error when no checkpoint can be used, for these reasons."""
    return InputError(f"{'; '.join(map(str, damaged))}; none is left to go on from: start the run again with --force")


def _place(path: Path) -> tuple[int, int]:
    """The epoch and the step in a checkpoint's name; as numbers, since names sort as text."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2])


def _wrong(state: Any, epoch: int, step: int) -> str | None:
    """What about a state cannot be right, whatever the run; None when nothing is."""
    if not isinstance(state, dict):
        return f"it holds a {type(state).__name__}; expected a dictionary"
    for name, kind in _KINDS.items():
        if name not in state:
            return f"it has no {name!r}"
        if not isinstance(state[name], kind) or isinstance(state[name], bool):
            return f"{name!r} is a {type(state[name]).__name__}"
    if (state["epoch"], state["step"]) != (epoch, step):
        return f"its epoch {state['epoch']} and step {state['step']} are not those in its name"
    if not math.isfinite(state["seconds"]) or state["seconds"] < 0:
        return f"'seconds' is {state['seconds']}"
    rows = state["history"]
    if len(rows) != epoch:
        return f"'history' has {len(rows)} rows for {epoch} epochs"
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not row.keys() >= ROW or row["epoch"] != number:
            return f"row {number} of 'history' is no row of that epoch"
        if not all(isinstance(key, str) and _is_finite(value) for key, value in row.items()):
            return f"row {number} of 'history' holds what is no number"
    for name in ("best", "student"):
        if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state[name].items()):
            return f"{name!r} holds what is no tensor"
    if not all(isinstance(rank, dict) and {"random", "meter"} <= rank.keys() for rank in state["ranks"]):
        return "'ranks' holds no random states"
    return None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the optimizer's state, once it is known to be one for these parameters.

    Raises:
        ValueError: when it is not.
    """
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        for key, value in optimizer.defaults.items():
            kinds = (int, float) if type(value) in (int, float) else (bool, type(None), type(value))
            if not isinstance(group.get(key), kinds):
                raise ValueError(f"{key} of its optimizer is {group.get(key)!r}")
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape not in (parameter.shape, ()):
                raise ValueError(f"{name} of its optimizer has the shape {tuple(value.shape)}")


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
