"""Dotted keys and plain values, and the dataclasses of options that they belong to."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, TypeVar

from mcld.errors import InputError, did_you_mean

LONGEST = 255  # bytes of a file's name, on every common file system
Node = TypeVar("Node", bound=Any)
_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "text", list: "a list", dict: "a mapping"}


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every option below a dataclass, nested ones included: (dotted key, type, value)."""
    hints = typing.get_type_hints(type(node))
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", hints[field.name], value


def spread(key: str, value: Any, known: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """A key and its value; of a mapping for a group of options, one pair for each of them."""
    if isinstance(value, Mapping) and key not in known and any(other.startswith(f"{key}.") for other in known):
        for inner, below in value.items():
            yield from spread(f"{key}.{inner}", below, known)
    else:
        yield key, value


def check_key(key: str, known: Iterable[str]) -> None:
    """Check that there is such an option.

    Raises:
        InputError: when there is none, with the nearest, or when there are several below it.
    """
    known = list(known)
    if key in known:
        return
    if any(other.startswith(f"{key}.") for other in known):
        raise InputError(f"{key!r} holds several settings; expected {key}.SETTING=VALUE")
    last = key.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == last]
    hint = did_you_mean(key, same or known, cutoff=0 if same else 0.4).strip()
    raise InputError(f"there is no setting {key!r}" + (f"; {hint}" if hint else ""))


def kinds_of(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of another type itself."""
    union = isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
    return typing.get_args(kind) if union else (kind,)


def convert(kind: Any, value: Any) -> Any:
    """A value as the type that an option has: for an integer ``"3"`` is 3, for a number 3 is 3.0.

    Raises:
        InputError: when it cannot be, saying what would be right.
    """
    kinds = kinds_of(kind)
    if kind is Any or type(value) in kinds:
        return value
    for one in kinds:
        origin, inner, text = typing.get_origin(one) or one, typing.get_args(one), isinstance(value, str)
        try:
            if origin is list and isinstance(value, list | tuple):
                return [convert(inner[0], item) for item in value]
            if origin is dict and isinstance(value, Mapping):
                return {str(key): item for key, item in value.items()}
            if one is bool and text and value.lower() in ("true", "false", "yes", "no", "on", "off"):
                return value.lower() in ("true", "yes", "on")
            if one is int and text:
                return int(value)
            if one is float and (text or type(value) is int):
                return float(value)
            if one is str and isinstance(value, PurePath):
                return str(value)
            if one is str and isinstance(value, bool | int | float):
                return str(value).lower() if isinstance(value, bool) else str(value)
        except (ValueError, OverflowError):  # another of the kinds may take it
            continue
    right = " or ".join(_WORDS.get(typing.get_origin(one) or one, str(one)) for one in kinds if one is not type(None))
    raise InputError(f"expected {right}, not {'null' if value is None else repr(value)}")


def check_meaning(value: Any) -> None:
    """Check that a value that somebody gave can mean something, whatever its setting.

    Raises:
        InputError: for an empty text or list, a NUL byte, and a name that no file can have.
    """
    if isinstance(value, str):
        if value == "":
            raise InputError("there is nothing after the equals sign; expected a value, or null for none")
        if "\0" in value:
            raise InputError("the value holds a NUL byte; expected a name without")
        if any(len(part.encode(errors="replace")) > LONGEST for part in value.split("/")):
            raise InputError(f"a name of more than {LONGEST} bytes; expected a shorter one")
    elif isinstance(value, list):
        if not value:
            raise InputError("the list is empty; expected at least one value, or null for none")
        for inner in value:
            check_meaning(inner)


def with_values(node: Node, values: Mapping[str, Any], prefix: str = "") -> Node:
    """A dataclass with other values, by dotted key; nothing is checked."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(node):
        key, value = f"{prefix}{field.name}", getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            changed: Any = with_values(value, values, f"{key}.")
            if changed != value:
                changes[field.name] = changed
        elif key in values:
            changes[field.name] = values[key]
    return dataclasses.replace(node, **changes) if changes else node
