"""The suite file: what to compare, as data."""

import re
import shlex
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from mcld.bench.suite import Entry, Suite, key_of, merge_words, slug
from mcld.checks import check_names
from mcld.configs.words import combinations, read, several, word_of
from mcld.configs.yaml_text import read_yaml_text
from mcld.errors import InputError

RESERVED = {
    "run": "the bench names the run directories; say where with out: DIR",
    "seed": "the bench sets it; say which with seeds: [...]",
    "threads": "the bench sets it; say how many with --threads",
    "devices": "a cell runs on one device",
}


def read_suite(path: str, out: str | None = None) -> Suite:
    """Read a suite file.

    Args:
        path: of the YAML file.
        out: where the run directories are, instead of where the file says.

    Raises:
        InputError: one line that names the file and the key, and says what would be right. Settings are not composed
            here: see :meth:`Cell.settings`.
    """
    try:
        given = yaml.load(read_yaml_text(Path(path)), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}; expected a suite file") from error
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two for a date or a number that is none
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is no YAML: {reason}") from error
    try:
        return _suite(given, Path(path), out)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _suite(given: Any, file: Path, out: str | None) -> Suite:
    required = ("common", "teacher", "pairs", "methods", "seeds", "test")
    optional = ("name", "title", "baseline", "out", "keep")
    if not isinstance(given, dict):
        raise InputError(f"expected keys with values: {', '.join(required)}")
    check_names("key", given, [*required, *optional])
    for key in required:
        if key not in given:
            raise InputError(f"{key} is missing; a suite has {', '.join(required)}, and perhaps {', '.join(optional)}")
    name = _text("name", given.get("name", file.stem))
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"name is {name!r}; expected letters, digits, -, _ and . only")
    seeds = _seeds("seeds", given["seeds"])
    common = _words("common", given["common"])
    test = [] if given["test"] == "validation" else _words("test", given["test"])
    for word in test:
        if not word.startswith("data"):
            raise InputError(f"test: {word!r}; expected words that change the data, such as data.val=FILE")
    teacher: str | list[str]
    if isinstance(given["teacher"], dict):
        check_names("key of teacher", given["teacher"], ["train"])
        teacher = _words("teacher.train", given["teacher"].get("train"), reserved=set(RESERVED) - {"seed"})
    else:
        teacher = _text("teacher", given["teacher"], "a run directory, or train: with the words of mcld train")
    pairs = {
        pair: _words(f"pairs.{pair}", words)
        for pair, words in _mapping("pairs", given["pairs"], "student=resnet8").items()
    }
    methods: dict[str, Entry] = {}
    for method, content in _mapping("methods", given["methods"], "method=kd").items():
        own, words = seeds, content
        if isinstance(content, dict):
            check_names(f"key of methods.{method}", content, ["words", "seeds"])
            words = content.get("words")
            own = _seeds(f"methods.{method}.seeds", content["seeds"]) if "seeds" in content else seeds
        for full_name, spelt_out in _spread(method, _words(f"methods.{method}", words)):
            if full_name in methods:
                raise InputError(f"methods.{method}: there are two methods {full_name!r}")
            methods[full_name] = Entry(spelt_out, own)
    for kind, names in (("pairs", pairs), ("methods", methods)):
        slugs: dict[str, str] = {}
        for one in names:
            if kind == "pairs" and slug(one) in ("teacher", "teacher-logits", "suites", "reports"):
                raise InputError(f"pairs: {one!r} is a name of the bench's own; choose another")
            if (other := slugs.setdefault(slug(one), one)) != one:
                raise InputError(f"{kind} {other!r} and {one!r} would share the directory {slug(one)!r}; rename one")
    baseline = given.get("baseline")
    if baseline is not None:
        check_names("method", [_text("baseline", baseline)], methods)
    keep = given.get("keep")
    return Suite(
        name=name,
        title=_text("title", given.get("title", name)),
        common=common,
        teacher=teacher,
        pairs=pairs,
        methods=methods,
        test=test,
        baseline=baseline,
        out=Path(out or _text("out", given.get("out", f"runs/{name}"))),
        keep=None if keep is None else Path(_text("keep", keep)),
        file=file,
    )


def _spread(name: str, words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A method with several values for a setting (``method.temperature=2,4``) is as many methods."""
    texts = read(words)
    swept = {key: text for key, text in texts.items() if len(several(key, text)) > 1}
    if not swept:
        yield name, words
        return
    keys = [key.removesuffix(".name") for key in swept]
    lasts = [key.rpartition(".")[2] for key in keys]
    shown = [
        last if lasts.count(last) == 1 else key.removeprefix("method.") for key, last in zip(keys, lasts, strict=True)
    ]
    fixed = [word_of(key, text) for key, text in texts.items() if key not in swept]
    for combination in combinations(swept):
        values = [word.partition("=")[2] for word in combination]
        suffix = ", ".join(f"{key} {value}" for key, value in zip(shown, values, strict=True))
        yield f"{name}: {suffix}", merge_words(fixed, combination)


def _words(key: str, given: Any, reserved: set[str] | None = None) -> list[str]:
    lines = [given] if isinstance(given, str) else given
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise InputError(
            f"{key} is {given!r}; expected words such as data=digits schedule.epochs=15, or a list of them"
        )
    words = [word for line in lines for word in shlex.split(line)]
    for word in words:
        if key_of(word) in (RESERVED if reserved is None else reserved):
            raise InputError(f"{key}: {word}: {RESERVED[key_of(word)]}")
        if "=" not in word and not word.startswith("~"):
            raise InputError(f"{key}: {word!r}; expected key=value")
    return words


def _mapping(key: str, given: Any, example: str) -> dict[str, Any]:
    if not isinstance(given, dict) or not given or not all(isinstance(name, str) for name in given):
        raise InputError(f"{key} is {given!r}; expected names with words, such as NAME: {example}")
    for name in given:
        if not slug(name):
            raise InputError(f"{key}: {name!r} is no name; expected one with letters or digits")
    return given


def _seeds(key: str, given: Any) -> list[int]:
    right = isinstance(given, list) and given and all(type(seed) is int and seed >= 0 for seed in given)
    if not right or len(set(given)) < len(given):
        raise InputError(f"{key} is {given!r}; expected different whole numbers from 0, such as [0, 1, 2]")
    return list(given)


def _text(key: str, given: Any, expected: str = "text") -> str:
    if not isinstance(given, str) or not given:
        raise InputError(f"{key} is {given!r}; expected {expected}")
    return given


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain data only, and no key twice (YAML itself would quietly take the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is a list or a mapping; expected text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made
