"""The words of a command line: ``key=value``, abbreviations, several values."""

import itertools
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from mcld.configs.values import kinds_of
from mcld.errors import InputError
from mcld.files import home_path

NAMED = ("data", "method", "logger", "model", "teacher", "student", "schedule", "optimizer")  # KEY=X sets KEY.name
_GRAMMAR = OverridesParser.create()


def read(words: Iterable[str]) -> dict[str, str]:
    """The text of each setting that words name, the last one of each, with abbreviations spelt out.

    Raises:
        InputError: for a word that is not ``key=value``.
    """
    texts = {}
    for word in words:
        match = re.fullmatch(r"\+{0,2}([\w.]+)=(.*)", word, re.DOTALL)
        if match is None:
            raise InputError(f"cannot read {word!r}; expected key=value")
        key, text = match.groups()
        key = key if text.startswith("{") and key not in NAMED[:3] else full(key)
        if key in ("method.name", "logger.name"):
            text = re.sub(r"\[([^\[\]]*)\]", lambda m: "+".join(part.strip() for part in m[1].split(",")), text)
        texts[key] = text
    return texts


def full(key: str) -> str:
    """The setting that a key means: ``teacher`` is short for ``teacher.name``."""
    return f"{key}.name" if key in NAMED else key


def word_of(key: str, value: object) -> str:
    """A setting as a word, in its short form."""
    group = key.removesuffix(".name")
    return f"{group if group in NAMED else key}={'null' if value is None else value}"


def value_of(key: str, text: str, kind: Any) -> Any:
    """What a text says for a setting of a type: names, paths and numbers are taken as they stand.

    Raises:
        InputError: when brackets or quotes in it do not match.
    """
    if text == "null":
        return None
    compound = kind is Any or typing.get_origin(kinds_of(kind)[0]) is not None
    if compound or text.startswith("{") or re.fullmatch(r"'.*'|\".*\"", text, re.DOTALL):
        return _parsed(key, text).value()
    return str(home_path(text)) if text.startswith("~") and str in kinds_of(kind) else text


def several(key: str, text: str) -> list[str]:
    """The texts of a sweep: values with commas, ``range()``, ``choice()``; one text where there is none.

    Raises:
        InputError: for a sweep without an end, such as ``interval()``, and as :func:`value_of`.
    """
    if re.match(r"\w+\(.*\)$", text) and (override := _parsed(key, text)).is_sweep_override():
        try:
            return [one.text if isinstance(one, QuotedString) else str(one) for one in override.sweep_iterator()]
        except HydraException as error:
            raise InputError(f"{word_of(key, text)}: expected values with commas, range() or choice()") from error
    return re.findall(r"""(?:'[^']*'|"[^"]*"|\[[^\]]*\]|\{[^}]*\}|[^,'"\[{]|['"\[{])+""", text) or [""]


def combinations(texts: Mapping[str, str]) -> list[list[str]]:
    """For each combination of the values of a sweep, the words."""
    every = ([word_of(key, one) for one in several(key, text)] for key, text in texts.items())
    return [list(job) for job in itertools.product(*every)]


def _parsed(key: str, text: str) -> Override:
    try:
        return _GRAMMAR.parse_override(f"{key}={text}")
    except HydraException as error:
        hint = "; put quotes around a value with special characters: key='\"a value\"'"
        raise InputError(f"cannot read {word_of(key, text)!r}; expected key=value{hint}") from error
