"""Options declared once: a field of a class with its type, its default and what it may be.

``temperature: Positive = 4.0`` in a method's class is all there is to say: the constructor takes it, checks it and
keeps it; the command line and ``mcld methods`` read it from there.
"""

import copy
import dataclasses
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any

from mcld.errors import InputError


@dataclasses.dataclass(frozen=True)
class Rule:
    """What an option may be, besides its type: ``Annotated[float, Rule(lambda x: x > 1, "a number above 1")]``.

    Attributes:
        allows: whether a value of the right type may be; numbers that are not finite never are.
        expected: the same in words, for the error.
    """

    allows: Callable[[Any], bool]
    expected: str


# What is beyond these is a slip of the pen: the loss would be 0, NaN or infinite by it.
Positive = Annotated[float, Rule(lambda x: 1e-6 <= x <= 1e6, "a positive number, from 1e-06 to 1e+06")]
NonNegative = Annotated[float, Rule(lambda x: 0 <= x <= 1e6, "a number of at least 0, up to 1e+06")]
Temperature = Annotated[float, Rule(lambda x: 1e-3 <= x <= 1e3, "a positive number, from 0.001 to 1000")]
Epochs = Annotated[float, Rule(lambda x: 0 <= x <= 1e4, "a number of epochs, from 0 to 10000")]
Share = Annotated[float, Rule(lambda x: 0 <= x <= 1, "a share of training, from 0 to 1")]
Count = Annotated[int, Rule(lambda x: 1 <= x <= 10**6, "an integer of at least 1, up to 1e+06")]


MISSING = "???"
"""The default of an option that has to be given."""
OBJECT = "<object>"
"""The name of what was given as an object from Python."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Marks an option that names a file or a folder; see :data:`File`."""


File = Annotated[str, Place()]
"""A file or folder; a run keeps it so that it means the same from every working directory."""


def between(least: float, most: float) -> Rule:
    """The rule of a number in a range, its ends included."""
    return Rule(lambda x: least <= x <= most, f"{least:,} to {most:,}")


def one_of(*words: str) -> Rule:
    """The rule of an option that is one of a few words."""
    return Rule(lambda x: x in words, f"one of {', '.join(words)}")


def check_fields(options: Any) -> None:
    """Check every field of a dataclass by its type and its rules.

    Raises:
        InputError: for the first that cannot be right, with what would be.
    """
    for name, kind in _kinds(type(options)).items():
        check_option(name, getattr(options, name), kind)


def check_option(name: str, value: object, kind: Any) -> None:
    """Check a value by a type such as ``float``, ``int | None`` or :data:`Positive`.

    Types other than bool, int, float and str are not looked at; rules always are.

    Raises:
        InputError: repeating the value and saying what would be right.
    """
    rules = [rule for rule in getattr(kind, "__metadata__", ()) if isinstance(rule, Rule)]
    bare = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    if typing.get_origin(bare) in (typing.Union, types.UnionType):
        choices = typing.get_args(bare)
        if value is None and type(None) in choices:
            return
        real = [choice for choice in choices if choice is not type(None)]
        if len(real) > 1 and not rules:
            return
        bare = real[0] if len(real) == 1 else Any
        if typing.get_origin(bare) is Annotated:  # such as Positive | None
            check_option(name, value, bare)
            return
    expected = " and ".join(rule.expected for rule in rules)
    if bare in _EXPECTED and not _is(value, bare):
        raise InputError(f"{name} is {value!r}; expected {expected or _EXPECTED[bare]}")
    if not all(rule.allows(value) for rule in rules):
        raise InputError(f"{name} is {value!r}; expected {expected}")


_EXPECTED: Mapping[Any, str] = {bool: "True or False", int: "an integer", float: "a finite number", str: "a word"}


def _is(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _kinds(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields, with their rules."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def places(cls: type) -> list[str]:
    """The fields of a dataclass that name files or folders."""

    def marked(kind: Any) -> bool:
        return any(isinstance(one, Place) for one in getattr(kind, "__metadata__", ())) or any(
            marked(one) for one in typing.get_args(kind)
        )

    return [name for name, kind in _kinds(cls).items() if marked(kind)]


def declare_options(cls: type, base: type) -> None:
    """Make the annotated fields of a subclass its options, which the constructor takes, as in a dataclass.

    For the ``__init_subclass__`` of a base with ``name`` and ``title``, which follow from the class unless it says
    them. A class with a constructor of its own keeps it, and so do its subclasses.

    Raises:
        TypeError: for an option without a type, or what is no option with one.
    """
    own = vars(cls)
    if "name" not in own:
        cls.name = cls.__name__.lower()  # type: ignore[attr-defined]  # the bases have both
    if "title" not in own:
        cls.title = inspect.cleandoc(cls.__doc__ or "").partition("\n")[0].rstrip(".")  # type: ignore[attr-defined]
    written = next(one for one in cls.__mro__ if "__init__" in vars(one))
    if written is not base and "__dataclass_fields__" not in vars(written):
        return
    for option in getattr(cls, "__dataclass_fields__", {}):
        if option in own and option not in own.get("__annotations__", {}):
            raise TypeError(f"{cls.__name__}.{option} is an option and needs its type: {option}: TYPE = VALUE")
    for made in dataclasses.fields(dataclasses.dataclass(eq=False, repr=False)(cls)):
        if made.name in base.__annotations__:
            raise TypeError(f"{cls.__name__}.{made.name} is no option; write it without a type: {made.name} = VALUE")


def option_names(cls: type) -> list[str]:
    """The options of a class: its constructor's arguments, in their order."""
    return list(inspect.signature(cls.__init__).parameters)[1:]  # type: ignore[misc]  # only its arguments are read


def options_dataclass(cls: type, title: str, more: Mapping[str, tuple[Any, Any]]) -> type[Any]:
    """A frozen dataclass of a class's options, with their types and defaults.

    Args:
        cls: whose constructor takes them.
        title: of the new class.
        more: further fields before them, each with its type and default.
    """
    hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]  # only its arguments are read
    made: dict[str, Any] = {field.name: field for field in dataclasses.fields(cls)} if is_dataclass(cls) else {}
    fields: list[tuple[str, Any, Any]] = [(key, kind, default) for key, (kind, default) in more.items()]
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]:  # type: ignore[misc]  # as above
        default = functools.partial(copy.deepcopy, parameter.default)
        if parameter.name in made and made[parameter.name].default_factory is not dataclasses.MISSING:
            default = made[parameter.name].default_factory
        fields.append((parameter.name, hints[parameter.name], dataclasses.field(default_factory=default)))
    return dataclasses.make_dataclass(f"{title}_options", fields, frozen=True)
