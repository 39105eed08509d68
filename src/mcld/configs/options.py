"""The groups of options that depend on what is chosen: those of methods and of loggers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mcld.methods import method_class
from mcld.options import OBJECT, options_dataclass
from mcld.registry import LOGGERS


@dataclasses.dataclass(frozen=True)
class OwnMethod:
    """A method that was given as an object.

    Attributes:
        name: of an object.
    """

    name: str = OBJECT


def method_options(name: str) -> type[Any]:
    """A dataclass of a method's options: ``name``, and its constructor's arguments with their types and defaults."""
    if name == OBJECT:
        return OwnMethod
    return options_dataclass(method_class(name), name, {"name": (str, name)})


def combined_options(names: Sequence[str]) -> type[Any]:
    """The options of several methods at once: each under its name, and ``weights``."""
    weights = dataclasses.make_dataclass("weights", [(name, float, 1.0) for name in names], frozen=True)
    return _group(names, {"weights": weights, **{name: method_options(name) for name in names}})


def logger_options(names: Sequence[str]) -> type[Any]:
    """A dataclass of the ``name`` of some loggers, and the options of each that has any under its name."""
    return _group(names, {name: options_dataclass(LOGGERS.get(name), name, {}) for name in names})


def _group(names: Sequence[str], parts: Mapping[str, type[Any]]) -> type[Any]:
    fields: list[tuple[str, Any, Any]] = [("name", str, "+".join(names))]
    fields += [
        (key, part, dataclasses.field(default_factory=part)) for key, part in parts.items() if dataclasses.fields(part)
    ]
    return dataclasses.make_dataclass("_".join(names), fields, frozen=True)
