"""Loading weights that other code bases wrote: finding them in the file, and undoing their prefixes."""

import argparse
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from torch import Tensor, nn

from mcld.errors import InputError
from mcld.models._fitting import State, fill, fits, head_classes, mismatch, overlap, without_head
from mcld.models._reading import is_safetensors, read_safetensors, read_torch
from mcld.models.network import unwrap

Part = Literal["student", "teacher"]

# What wrappers put before every key: data parallelism, torch.compile, Lightning modules, training tasks.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "student.", "teacher.")
# Where a checkpoint keeps its state dict, the first that is there.
_ENTRIES = ("state_dict", "model", "model_state_dict", "net", "model_state")


@dataclass(frozen=True)
class LoadReport:
    """What :func:`load_checkpoint` found and did; ``str`` of it is one line.

    Attributes:
        file: the file.
        container: what kind of file it is, in words.
        entry: the key of the state dict in the file; empty when the file is the state dict.
        stripped: the prefixes taken off the keys, from the outermost.
        tensors: how many tensors were loaded.
        left_out: how many tensors the file has besides (another network's, or a method's own).
        counters: how many step counters of BatchNorm the file lacks (those are set to 0).
        new_head: the classes of the file and of the model, where the model kept its own head; else None.
    """

    file: str
    container: str
    entry: str
    stripped: tuple[str, ...]
    tensors: int
    left_out: int
    counters: int
    new_head: tuple[int, int] | None = None

    def __str__(self) -> str:
        parts = [f"{self.file}: {self.container}"]
        parts.append(f"{self.tensors} tensors" + (f" from {self.entry!r}" if self.entry else ""))
        if self.stripped:
            parts.append(f"prefix {''.join(self.stripped)!r} stripped")
        if self.left_out:
            parts.append(f"{self.left_out} other tensors left out")
        if self.counters:
            parts.append(f"{self.counters} BatchNorm step counters absent and set to 0")
        if self.new_head:
            there, here = self.new_head
            parts.append(f"new head: {there:,} → {here:,} classes")
        return ", ".join(parts)


def load_checkpoint(
    model: nn.Module,
    file: str | os.PathLike[str],
    *,
    part: Part = "student",
    ema: bool = True,
    new_head: bool = False,
) -> LoadReport:
    """Load weights from a file that any of the usual code bases wrote, without running anything in it.

    Known are safetensors, and ``torch.save`` files of RepDistiller, mdistiller (teachers, runs, students),
    torchdistill, timm, Lightning, or with a bare state dict; with prefixes of data parallelism, ``torch.compile`` and
    Lightning modules.
    All keys must fit: there is no partial load, except of a head with other classes when that is asked for, and the
    model is untouched when loading fails.

    Args:
        model: the architecture, bare or inside a ``Network``, ``torch.compile`` or data parallelism.
        part: which network to take from a file that holds a student and a teacher.
        ema: whether to take the averaged weights where the file has both (timm's ``state_dict_ema``).
        new_head: whether the model keeps its own, fresh classifier where that of the file has another number of
            classes; everything else must fit all the same.

    Returns:
        What was recognised, stripped, left out and filled in.

    Raises:
        InputError: when the file is absent, damaged, asks for a type that could run code, holds no state dict, or holds
            one that does not fit (with the keys concerned, and the model of the zoo that would fit).
    """
    if part not in ("student", "teacher"):
        raise InputError(f"part is {part!r}; expected student or teacher")
    inner = unwrap(model)
    if is_safetensors(file):
        container, entry, state = "safetensors", "", read_safetensors(file)
    else:
        container, entry, state = _find_state(read_torch(file), str(file), ema)
    readings = _readings(state, part)
    for stripped, candidate in readings:
        if fits(inner, candidate):
            counters = fill(inner, candidate)
            left_out = len(state) - len(candidate)
            return LoadReport(str(file), container, entry, stripped, len(candidate), left_out, counters)
    for stripped, candidate in readings if new_head else ():
        if classes := head_classes(inner, candidate):
            counters = fill(inner, without_head(inner, candidate))
            left_out = len(state) - len(candidate)
            return LoadReport(str(file), container, entry, stripped, len(candidate), left_out, counters, classes)
    other: Part = "teacher" if part == "student" else "student"
    if any(fits(inner, candidate) for _, candidate in _readings(state, other)):
        raise InputError(f"{file} holds a {other} that fits the model and no {part}; give part={other!r} to load it")
    _, nearest = max(readings, key=lambda reading: overlap(inner, reading[1]))
    raise mismatch(inner, nearest, str(file))


def _readings(state: State, part: Part) -> list[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """List every way to take prefixes off the keys, fewest first.

    A prefix need not be on all keys; the other keys are left out.
    Not stripping at all comes first, because an architecture may have keys of its own that look like a prefix.
    """
    other = "teacher." if part == "student" else "student."
    found: list[tuple[tuple[str, ...], dict[str, Tensor]]] = []
    waiting: deque[tuple[tuple[str, ...], dict[str, Tensor]]] = deque([((), dict(state))])
    while waiting:
        stripped, keys = waiting.popleft()
        found.append((stripped, keys))
        for prefix in _PREFIXES:
            inside = {key.removeprefix(prefix): value for key, value in keys.items() if key.startswith(prefix)}
            if inside and prefix != other:
                waiting.append(((*stripped, prefix), inside))
    return found


def _find_state(content: Any, file: str, ema: bool) -> tuple[str, str, dict[str, Tensor]]:
    """Return what kind of checkpoint this is, the key of its state dict, and the state dict."""
    if _is_state(content):
        return "a bare state dict", "", dict(content)
    if isinstance(content, Mapping):
        entries = ("state_dict_ema", *_ENTRIES) if ema else (*_ENTRIES, "state_dict_ema")
        for entry in entries:
            if _is_state(content.get(entry)):
                return _kind(content, entry), entry, dict(content[entry])
        held = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise InputError(f"{file} holds no state dict; it holds {held}, and expected is one of {', '.join(_ENTRIES)}")
    raise InputError(f"{file} holds a {type(content).__name__}; expected a state dict, or a dictionary with one")


def _is_state(value: Any) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def _kind(content: Mapping[str, Any], entry: str) -> str:
    keys = content.keys()
    if "pytorch-lightning_version" in keys:
        return "a Lightning checkpoint"
    if entry == "state_dict_ema" or ("arch" in keys and "version" in keys):
        return "a timm checkpoint" + (" (averaged weights)" if entry == "state_dict_ema" else "")
    if {"lr_scheduler", "best_value", "args"} <= keys:
        return "a torchdistill checkpoint"
    names = {name for key in content[entry] for name in key.split(".")[:2]}
    if {"student", "teacher"} <= names:
        return "an mdistiller run with student and teacher"
    if isinstance(content.get("opt"), argparse.Namespace):
        return "a RepDistiller last checkpoint"
    if entry == "model" and keys & {"accuracy", "best_acc"}:
        return "a RepDistiller or mdistiller checkpoint"
    return "a training checkpoint"
