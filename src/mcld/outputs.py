"""The logits in whatever a classifier returns: a tensor, a tuple, a dictionary, an output object."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mcld.errors import InputError


def split_output(output: Any, name: str) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The logits (B, C) in a network's output, and those of auxiliary classifiers beside them.

    The logits are the tensor itself, what is called ``logits`` (in an output object of Hugging Face, a named tuple of
    torchvision, a dictionary), the first of a tuple, or the only tensor of a dictionary. Those of auxiliary classifiers
    are called ``aux…`` and have the logits' shape.

    Args:
        output: of a network in one call.
        name: what to call the network in messages.

    Raises:
        InputError: when there are no logits in it, saying what there is.

    Example:
        >>> import torch
        >>> from mcld.outputs import split_output
        >>> logits, auxiliary = split_output({"logits": torch.zeros(2, 3), "aux_1": torch.ones(2, 3)}, "student")
        >>> logits.shape, len(auxiliary)
        (torch.Size([2, 3]), 1)
    """
    if isinstance(output, Tensor):
        return _checked(output, name, "logits"), ()
    named = _named(output)
    if named is None:
        if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
            return _checked(output[0], name, "a tuple whose first is"), ()
        raise InputError(
            f"the {name} gives {_kind(output)}; expected logits (B, C), or an output that has them as .logits, as "
            "['logits'] or first in a tuple"
        )
    found = named.get("logits")
    if not isinstance(found, Tensor):
        tensors = [value for value in named.values() if isinstance(value, Tensor)]
        if len(tensors) != 1:
            keys = ", ".join(map(str, named)) or "nothing"
            raise InputError(f"the {name} gives {type(output).__name__} with {keys}; expected the logits as 'logits'")
        found = tensors[0]
    logits = _checked(found, name, "logits")
    beside = (value for key, value in named.items() if str(key).startswith("aux"))
    return logits, tuple(x for x in beside if isinstance(x, Tensor) and x.shape == logits.shape)


def first_tensor(output: Any) -> Any:
    """The tensor in a module's output that may be a map: of a tuple the first, of an output object its first field."""
    if isinstance(output, Tensor):
        return output
    named = _named(output)
    values = list(named.values()) if named is not None else output
    return values[0] if isinstance(values, tuple | list) and values and isinstance(values[0], Tensor) else output


def _named(output: Any) -> dict[str, Any] | None:
    """What an output has under names, or None where it has none."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple) and hasattr(output, "_asdict"):
        return dict(output._asdict())
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return {"logits": output.logits} if isinstance(getattr(output, "logits", None), Tensor) else None


def _checked(logits: Tensor, name: str, what: str) -> Tensor:
    if logits.ndim != 2:
        raise InputError(f"the {name} gives {what} of shape {tuple(logits.shape)}; expected (B, C), a row per image")
    return logits


def _kind(output: Any) -> str:
    if isinstance(output, tuple | list):
        inside = ", ".join(type(part).__name__ for part in output)
        return f"a {type(output).__name__} of ({inside})"
    return "nothing" if output is None else f"a {type(output).__name__}"
