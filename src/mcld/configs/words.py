"""The words of a command line: ``key=value``, abbreviations, several values."""

import functools
import itertools
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
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
    """Words with abbreviations and ``published=ID`` spelt out: ``model=X`` is ``model.name=X``.

    Raises:
        InputError: for a word that is not ``key=value``, or a published row that does not exist.
    """
    found = []
    for said in expand(command, list(words)):
        match = re.fullmatch(r"\+{0,2}([\w.]+)=(.*)", said, re.DOTALL)
        if match is None:
            raise InputError(f"cannot read {said!r}; expected key=value")
        key, text = match.groups()
        if key in ("method", "logger"):
            text = re.sub(r"\[([^\[\]]*)\]", lambda m: "+".join(part.strip() for part in m[1].split(",")), text)
        if key in NAMED and not text.startswith("{"):
            key = f"{key}.name"
        found.append(Word(said, key, text))
    return found


def value_of(word: Word, kind: Any) -> Any:
    """What a word says, as the type that its setting has; a path or a name is taken as it stands.

    Raises:
        InputError: when it cannot be.
    """
    kinds, text = kinds_of(kind), word.text
    if text == "null":
        return convert(kind, None)
    path = word.key in PATHS or word.key.endswith(".checkpoint")
    if not path and len(several(word)) > 1:
        raise InputError("expected one value; for a run with each of several values add -m")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and str in kinds:
        return str(_parsed(word).value())
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if str in kinds:
        return str(home_path(text)) if text.startswith("~") else text
    if kind is Any or text[:1] in ("[", "{") or typing.get_origin(kinds[0]) is not None:
        return convert(kind, _parsed(word).value())
    return convert(kind, text)


def several(word: Word) -> list[str]:
    """The texts of a sweep: values with commas, ``range()``, ``choice()``; one text of a word that is none.

    Raises:
        InputError: for a sweep without an end, such as ``interval()``.
    """
    if re.match(r"\w+\(.*\)$", word.text):
        override = _parsed(word)
        if not override.is_sweep_override():
            return [word.text]
        try:
            return [one.text if isinstance(one, QuotedString) else str(one) for one in override.sweep_iterator()]
        except HydraException as error:
            raise InputError(f"{word.said}: expected values with commas, range() or choice()") from error
    return re.findall(r"""(?:'[^']*'|"[^"]*"|\[[^\]]*\]|\{[^}]*\}|[^,'"\[{]|['"\[{])+""", word.text) or [""]


def combinations(words: Sequence[Word]) -> list[list[str]]:
    """For each combination of the values of a sweep, the words."""
    return [list(job) for job in itertools.product(*([f"{w.key}={text}" for text in several(w)] for w in words))]


def refer(words: Iterable[Word], defaults: Mapping[str, Any]) -> list[Word]:
    """Words in which ``${seed}`` stands for what another setting is; ``\\${seed}`` stands for itself.

    Raises:
        InputError: when there is no such setting.
    """
    known = {**defaults, **{word.key: word.text for word in words}}

    def filled(word: Word) -> str:
        def other(match: re.Match[str]) -> str:
            if match[1]:
                return match[0][1:]
            if "${" in str(known.get(match[2], "${")):
                raise InputError(f"{word.said}: there is no setting {match[2]!r} that ${{…}} could stand for")
            return str(known[match[2]])

        return re.sub(r"(\\?)\$\{([^}]*)\}", other, word.text)

    return [word._replace(text=filled(word)) if "${" in word.text else word for word in words]


def _parsed(word: Word) -> Override:
    try:
        return _parser().parse_override(f"{word.key}={word.text}")
    except HydraException as error:
        hint = "; put quotes around a value with special characters: key='\"a value\"'"
        raise InputError(f"cannot read {word.said!r}; expected key=value{hint}") from error


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()
