"""The words of a command line: ``key=value``, abbreviations, several values."""

import functools
import itertools
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from mcld.configs.expand import NAMED, expand
from mcld.configs.values import convert, kinds_of
from mcld.errors import InputError
from mcld.files import home_path

PATHS = ("run", "model.name", "teacher.name", "teacher.store", "student.name", "data.path", "data.train", "data.val")


class Word(NamedTuple):
    """A word as it was said, the setting, and the text of its value."""

    said: str
    key: str
    text: str


def read(command: str, words: Iterable[str]) -> list[Word]:
    """Words with abbreviations, ``published=ID`` and ``recipe=NAME`` spelt out: ``model=X`` is ``model.name=X``.

    Raises:
        InputError: for a word that is not ``key=value``, or a published row or a recipe that does not exist.
    """
    said = list(_spelt_out(words))
    texts: dict[str, list[str]] = {}
    for word in said:
        texts.setdefault(word.key, []).append(word.text.strip("'\""))
    return [word for word in _spelt_out(expand(command, texts)) if word.key not in texts] + said  # a person's win


def _spelt_out(words: Iterable[str]) -> Iterator[Word]:
    for said in words:
        match = re.fullmatch(r"\+{0,2}([\w.]+)=(.*)", said, re.DOTALL)
        if match is None:
            raise InputError(f"cannot read {said!r}; expected key=value")
        key, text = match.groups()
        if key in ("method", "logger"):
            text = re.sub(r"\[([^\[\]]*)\]", lambda m: "+".join(part.strip() for part in m[1].split(",")), text)
        yield Word(said, f"{key}.name" if key in NAMED and not text.startswith("{") else key, text)


def value_of(word: Word, kind: Any) -> Any:
    """What a word says, as the type that its setting has; a path or a name is taken as it stands.

    Raises:
        InputError: when it cannot be.
    """
    kinds, text = kinds_of(kind), word.text
    if word.key not in PATHS and not word.key.endswith(".checkpoint") and len(several(word)) > 1:
        raise InputError("expected one value; for a run with each of several values add -m")
    if text == "null":
        return convert(kind, None)
    if re.fullmatch(r"'.*'|\".*\"", text, re.DOTALL) or kind is Any or typing.get_origin(kinds[0]) is not None:
        return convert(kind, _parsed(word).value())
    return convert(kind, str(home_path(text)) if text.startswith("~") and str in kinds else text)


def several(word: Word) -> list[str]:
    """The texts of a sweep: values with commas, ``range()``, ``choice()``; one text of a word that is none.

    Raises:
        InputError: for a sweep without an end, such as ``interval()``.
    """
    if re.match(r"\w+\(.*\)$", word.text) and (override := _parsed(word)).is_sweep_override():
        try:
            return [one.text if isinstance(one, QuotedString) else str(one) for one in override.sweep_iterator()]
        except HydraException as error:
            raise InputError(f"{word.said}: expected values with commas, range() or choice()") from error
    return re.findall(r"""(?:'[^']*'|"[^"]*"|\[[^\]]*\]|\{[^}]*\}|[^,'"\[{]|['"\[{])+""", word.text) or [""]


def combinations(words: Iterable[Word]) -> list[list[str]]:
    """For each combination of the values of a sweep, the words."""
    return [list(job) for job in itertools.product(*([f"{w.key}={text}" for text in several(w)] for w in words))]


def _parsed(word: Word) -> Override:
    try:
        return _parser().parse_override(f"{word.key}={word.text}")
    except HydraException as error:
        hint = "; put quotes around a value with special characters: key='\"a value\"'"
        raise InputError(f"cannot read {word.said!r}; expected key=value{hint}") from error


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()
