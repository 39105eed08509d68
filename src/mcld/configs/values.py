"""Dotted keys and plain values, and the dataclasses of options that they belong to."""

import contextlib
import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, TypeVar

from mcld.errors import InputError, did_you_mean

LONGEST = 255  # bytes of a file's name, on every common file system
Node = TypeVar("Node", bound=Any)
_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "text", list: "a list", dict: "a mapping"}
_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_READERS: Mapping[Any, Callable[[Any], Any]] = {bool: lambda text: _BOOLS[text.lower()], int: int, float: float}


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every option below a dataclass, nested ones included: (dotted key, type, value)."""
    hints = typing.get_type_hints(type(node))
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", hints[field.name], value


def with_values(node: Node, values: Mapping[str, Any]) -> Node:
    """A dataclass, or a mapping below one, with other values, by dotted key; nothing is checked."""
    for key, value in values.items():
        if isinstance(node, dict):
            node = typing.cast(Node, {**node, key: value})
            continue
        first, _, rest = key.partition(".")
        node = dataclasses.replace(node, **{first: with_values(getattr(node, first), {rest: value}) if rest else value})
    return node


def kind_of(key: str, known: Mapping[str, Any]) -> Any:
    """The type of an option.

    Raises:
        InputError: when there is none, with the nearest, or when there are several below it.
    """
    parent, _, last = key.rpartition(".")
    if key in known:
        return known[key]
    if typing.get_origin(known.get(parent)) is dict:  # open: whoever takes it checks it
        return typing.get_args(known[parent])[1]
    if any(other.startswith(f"{key}.") for other in known):
        raise InputError(f"{key!r} holds several settings; expected {key}.SETTING=VALUE")
    beside = [other for other in known if other.rpartition(".")[0] == parent]
    same = [other for other in known if other.rpartition(".")[2] == last]
    groups = {other.partition(".")[0] for other in known if "." in other}
    if parent and beside:  # the group is right
        near = did_you_mean(last, [other.rpartition(".")[2] for other in beside])
        hint = near.replace("'", f"'{parent}.", 1) if near else did_you_mean(key, same, cutoff=0)
        hint = hint or (f"expected {', '.join(sorted(beside))}" if len(beside) <= 8 else "")
    else:
        hint = did_you_mean(key, same or {*known, *groups}, cutoff=0 if same else 0.6)
    raise InputError(f"there is no setting {key!r}" + (f"; {hint.strip()}" if hint else ""))


def kinds_of(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of another type itself."""
    union = isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
    return typing.get_args(kind) if union else (kind,)


def convert(kind: Any, value: Any) -> Any:
    """A value as the type that an option has: for an integer ``"3"`` is 3, for a number 3 is 3.0.

    Raises:
        InputError: when it cannot be, saying what would be right.
    """
    kinds, text = kinds_of(kind), isinstance(value, str)
    if kind is Any or (type(value) in kinds and not text):
        return value
    for one in sorted(kinds, key=lambda one: one is str):  # text is what can be nothing else
        origin = typing.get_origin(one) or one
        with contextlib.suppress(KeyError, ValueError, OverflowError):  # another of the kinds may take it
            if origin is list and isinstance(value, list | tuple):
                return [convert(typing.get_args(one)[0], item) for item in value]
            if origin is dict and isinstance(value, Mapping):
                return {str(key): item for key, item in value.items()}
            if one is str and isinstance(value, str | PurePath | int | float):
                return str(value)
            if one in _READERS and (text or (one is float and type(value) is int)):
                return _READERS[one](value)
    right = " or ".join(_WORDS.get(typing.get_origin(one) or one, str(one)) for one in kinds if one is not type(None))
    raise InputError(f"expected {right}, not {'null' if value is None else repr(value)}")


def check_meaning(value: Any) -> None:
    """Check that a value that somebody gave can mean something, whatever its setting.

    Raises:
        InputError: for an empty text or list, a NUL byte, and a name that no file can have.
    """
    if value == "":
        raise InputError("there is nothing after the equals sign; expected a value, or null for none")
    if value == []:
        raise InputError("the list is empty; expected at least one value, or null for none")
    if isinstance(value, str) and "\0" in value:
        raise InputError("the value holds a NUL byte; expected a name without")
    if isinstance(value, str) and any(len(part.encode(errors="replace")) > LONGEST for part in value.split("/")):
        raise InputError(f"a name of more than {LONGEST} bytes; expected a shorter one")
    for inner in value if isinstance(value, list) else ():
        check_meaning(inner)
