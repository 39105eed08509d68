"""Checks of what people pass in, with errors that say what would be right."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mcld.errors import InputError, unknown_name


def check_row_integers(name: str, values: Tensor, rows: int) -> None:
    """Check a tensor with one integer for each of some rows, such as labels or index.

    Raises:
        InputError: for another shape or type.
    """
    if values.shape != (rows,):
        raise InputError(f"{name} have shape {tuple(values.shape)}; expected ({rows},), one for each row")
    if values.is_floating_point() or values.is_complex() or values.dtype is torch.bool:
        raise InputError(f"{name} are {values.dtype}; expected integers")


def check_label_range(labels: Tensor, classes: int) -> None:
    """Check that labels are class indices; an accelerator is waited for.

    Raises:
        InputError: for a label out of range.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise InputError(f"labels range from {low} to {high}; expected 0 to {classes - 1} for {classes} classes")


# What is beyond these is no number that anybody means: a loss would be 0, NaN or infinite by it.
_POSITIVE = (1e-6, 1e6)
_RANGES = dict.fromkeys(("temperature", "target_temperature", "softmax"), (0.001, 1000.0))


def check_options(positive: Mapping[str, float] | None = None, non_negative: Mapping[str, float] | None = None) -> None:
    """Check numeric options, by name: positive ones from 1e-6 to 1e6, temperatures from 0.001 to 1,000, others from 0.

    Raises:
        InputError: for a value that is no number or out of range.
    """
    for name, value in (positive or {}).items():
        least, most = _RANGES.get(name.rpartition(".")[2], _POSITIVE)
        if not (_is_number(value) and least <= value <= most):
            raise InputError(f"{name} is {_short(value)}; expected a positive number, from {least:g} to {most:g}")
    for name, value in (non_negative or {}).items():
        if not (_is_number(value) and 0 <= value <= _POSITIVE[1]):
            raise InputError(f"{name} is {_short(value)}; expected a number of at least 0, up to {_POSITIVE[1]:g}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"{text[:40]}…"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_share(name: str, value: float) -> None:
    """Check a share of training, such as the progress or a warm-up.

    Raises:
        InputError: for a value outside [0, 1].
    """
    if not (_is_number(value) and 0 <= value <= 1):
        raise InputError(f"{name} is {value!r}; expected a share of training, from 0 to 1")


def check_flag(name: str, value: bool) -> None:
    """Check an option that is on or off.

    Raises:
        InputError: for anything but True and False.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}; expected True or False")


def check_choice(name: str, value: str, allowed: Iterable[str]) -> None:
    """Check an option with a few allowed words.

    Raises:
        InputError: naming the allowed words.
    """
    if value not in tuple(allowed):
        raise InputError(f"{name} is {value!r}; expected {' or '.join(map(repr, allowed))}")


def check_names(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Check that every name is known.

    Raises:
        InputError: for the first that is not, with the nearest right name and all of them.
    """
    known = sorted(known)
    for name in given:
        if name not in known:
            raise unknown_name(kind, name, known)
