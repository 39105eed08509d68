"""The suite file: what to compare, as data; and the cells that it spells out to."""

import copy
import functools
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from mcld.checks import check_names
from mcld.configs.compose import Command, compose, flatten, parse
from mcld.configs.schema import Distill, Train
from mcld.errors import InputError
from mcld.runs.results import RESULTS, Results, read_results

RESERVED = {
    "run": "the bench names the run directories; say where with out: DIR",
    "seed": "the bench sets it; say which with seeds: [...]",
    "threads": "the bench sets it; say how many with --threads",
    "devices": "a cell runs on one device",
}
Settings = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A method of the suite.

    Attributes:
        words: settings, as on the command line.
        seeds: of its cells.
    """

    words: list[str]
    seeds: list[int]


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        id: ``PAIR/METHOD/seedK`` in letters that suit a path; ``teacher`` for the teacher.
        pair: its name in the suite; empty for the teacher.
        method: its name in the suite; empty for the teacher.
        seed: of the run.
        command: ``distill``, or ``train`` for the teacher.
        words: settings, as on the command line, without ``run`` and ``threads``.
        run: the run directory.
        test: the words that turn its data into the test data.
        kept: where a copy of its results is kept besides the run directory.
    """

    id: str
    pair: str
    method: str
    seed: int
    command: Command
    words: list[str]
    run: Path
    test: list[str]
    kept: Path | None

    def settings(self) -> Train | Distill:
        """The settings of the run.

        Raises:
            InputError: naming the cell, and the word that cannot be right.
        """
        words = tuple(word for word in self.words if self.command == "train" or _key(word) != "seed")
        try:
            settings = copy.deepcopy(_compose(self.command, words))
        except InputError as error:
            raise InputError(f"{self.id}: {error}") from error
        settings.run = str(self.run)
        if self.command == "distill":
            settings.seed = self.seed
        return settings

    def test_data(self) -> Any:
        """The data settings whose validation split is the test data.

        Raises:
            InputError: for words that cannot be right, or that leave the data as it is.
        """
        words = tuple(word for word in merge_words(self.words, self.test) if _key(word) != "seed")
        try:
            data = _compose(self.command, words).data
        except InputError as error:
            raise InputError(f"test: {error}") from error
        if data == self.settings().data:
            raise InputError(
                f"test: {shlex.join(self.test)} is the validation data; expected other images to report on"
            )
        return data

    def finished(self) -> bool:
        """Whether nothing is left to do: for the teacher that it is trained, for others that there are results.

        Raises:
            InputError: as :meth:`results`, or when the results are of other settings.
        """
        if self.command == "train":
            return (self.run / "summary.json").is_file()
        found = self.results()
        if found is None:
            return False
        if other := difference(self, flatten(self.settings()), found.settings, resolved=False):
            raise InputError(
                f"{self.id} was measured with other settings ({found.file}): {other}; "
                "rename it in the suite, or choose another out or keep"
            )
        return True

    def results(self) -> Results | None:
        """What the finished cell measured, from its run directory or from the copy; None when it is not finished.

        Raises:
            InputError: when the file is damaged.
        """
        for place in (self.run / RESULTS, self.kept):
            if place is not None and place.is_file():
                return read_results(place)
        return None


@dataclass(frozen=True)
class Suite:
    """What to compare.

    Attributes:
        name: of the suite; letters, digits, ``-``, ``_`` and ``.``.
        title: one line for the report.
        common: settings of every cell, as words of the command line.
        teacher: its run directory, or the words of ``mcld train`` that make it (with the data words of ``common``).
        pairs: for each name the words that set it apart: a student, another schedule, another teacher.
        methods: for each name its words and seeds.
        test: the words that turn the data into the test data, such as ``data.val=FILE``.
        baseline: the method that the others are compared with; None for no such comparison.
        out: where the run directories are.
        keep: where copies of the finished cells' results go; None for nowhere.
        file: that it was read from.
    """

    name: str
    title: str
    common: list[str]
    teacher: str | list[str]
    pairs: dict[str, list[str]]
    methods: dict[str, Entry]
    test: list[str]
    baseline: str | None
    out: Path
    keep: Path | None
    file: Path

    @property
    def teacher_cell(self) -> Cell | None:
        """The teacher as a cell, when the suite trains it."""
        if isinstance(self.teacher, str):
            return None
        data = [word for word in self.common if word.startswith("data")]
        return self._cell("teacher", "", "", 0, "train", merge_words(data, self.teacher))

    def cells(self) -> list[Cell]:
        """The students of the grid, all of the first seed before those of the next, so that partial results compare."""
        run = self.teacher if isinstance(self.teacher, str) else str(self.out / "teacher")
        found = []
        for seed in sorted({seed for entry in self.methods.values() for seed in entry.seeds}):
            for pair, pair_words in self.pairs.items():
                for method, entry in self.methods.items():
                    if seed in entry.seeds:
                        words = merge_words([f"teacher={run}"], self.common, pair_words, entry.words, [f"seed={seed}"])
                        id = f"{slug(pair)}/{slug(method)}/seed{seed}"
                        found.append(self._cell(id, pair, method, seed, "distill", words))
        return found

    def cell(self, id: str) -> Cell:
        """One cell by its name, the teacher's included.

        Raises:
            InputError: for a name that the suite does not have, with the nearest.
        """
        teacher = self.teacher_cell
        cells = {cell.id: cell for cell in [*([teacher] if teacher else []), *self.cells()]}
        check_names("cell", [id], cells)
        return cells[id]

    def _cell(self, id: str, pair: str, method: str, seed: int, command: Command, words: list[str]) -> Cell:
        kept = None if self.keep is None else self.keep / f"{id}.json"
        return Cell(id, pair, method, seed, command, words, self.out / id, self.test, kept)


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
        text = Path(path).read_text(encoding="utf-8")
        given = yaml.load(text, Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}; expected a suite file") from error
    except yaml.YAMLError as error:
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
    common, test = _words("common", given["common"]), _words("test", given["test"])
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


def select(cells: Sequence[Cell], wanted: Sequence[str]) -> list[Cell]:
    """The cells that are asked for: by id, a part of it (``resnet8/kd``, ``seed0``), or the name of a method or pair.

    Raises:
        InputError: for one that is none.
    """
    if not wanted:
        return list(cells)
    chosen: set[str] = set()
    for one in wanted:
        parts = slug(one, "/")
        found = {cell.id for cell in cells if one in (cell.method, cell.pair) or f"/{parts}/" in f"/{cell.id}/"}
        if not found:
            names = sorted({cell.method for cell in cells} | {cell.pair for cell in cells})
            check_names("cell", [one], [*names, *(cell.id for cell in cells)] if len(cells) <= 8 else names)
        chosen |= found
    return [cell for cell in cells if cell.id in chosen]


def difference(cell: Cell, now: Settings, then: Settings, *, resolved: bool) -> str:
    """How the settings of a cell differ from those it was run with, in words; empty when they agree.

    Args:
        cell: which.
        now: what the suite asks for.
        then: what was run.
        resolved: whether what was left open (null, auto) has been filled in in ``then``.
    """
    named = {re.sub(r"^(teacher|student|model|schedule|optimizer)$", r"\1.name", _key(word)) for word in cell.words}
    parts = []
    for key in [*now, *(key for key in then if key not in now)]:
        own = (cell.run.parents[2] / "teacher").absolute()
        own_teacher = cell.command == "distill" and Path(str(now.get(key))).absolute() == own
        if key == "teacher.name" and own_teacher:  # its place depends on where the runs are
            continue
        if key in now and key in then:
            if now[key] != then[key] and not (resolved and now[key] in (None, "auto")):
                parts.append(f"{key} is {then[key]} there, {now[key]} in the suite")
        elif key in named or key not in now:  # settings that came into being since count with their defaults
            parts.append(f"{key} is only {'in the suite' if key in now else 'there'}")
    return "; ".join(parts)


def merge_words(*groups: Sequence[str]) -> list[str]:
    """Words one after another; a later one replaces an earlier one of the same key.

    >>> merge_words(["data=digits", "seed=1"], ["seed=2"])
    ['data=digits', 'seed=2']
    """
    merged = {_key(word): word for group in groups for word in group}
    return list(merged.values())


def slug(name: str, also: str = "") -> str:
    """A name in letters that suit a path.

    >>> slug("MCLD + KD, T=4")
    'mcld+kd-t=4'
    """
    name = re.sub(r"\s*\+\s*", "+", name.lower())
    return re.sub(rf"[^\w.=+{also}-]+", "-", name).strip("-")


@functools.cache
def _compose(command: Command, words: tuple[str, ...]) -> Train | Distill:
    """What seeds share is composed once; only to be read."""
    return compose(command, words)


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _spread(name: str, words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A method with several values for a setting (``method.temperature=2,4``) is as many methods."""
    overrides = parse("distill", words, sweep=True)
    swept = [override for override in overrides if override.is_sweep_override()]
    if not swept:
        yield name, words
        return
    keys = [override.key_or_group for override in swept]
    lasts = [key.rpartition(".")[2] for key in keys]
    shown = [
        last if lasts.count(last) == 1 else key.removeprefix("method.") for key, last in zip(keys, lasts, strict=True)
    ]
    fixed = [word for word, override in zip(words, overrides, strict=True) if not override.is_sweep_override()]
    for combination in BasicSweeper.split_arguments(swept, max_batch_size=None)[0]:
        values = [word.partition("=")[2] for word in combination]
        suffix = ", ".join(f"{key} {value}" for key, value in zip(shown, values, strict=True))
        yield f"{name}: {suffix}", merge_words(fixed, list(combination))


def _words(key: str, given: Any, reserved: set[str] | None = None) -> list[str]:
    lines = [given] if isinstance(given, str) else given
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise InputError(
            f"{key} is {given!r}; expected words such as data=digits schedule.epochs=15, or a list of them"
        )
    words = [word for line in lines for word in shlex.split(line)]
    for word in words:
        if _key(word) in (RESERVED if reserved is None else reserved):
            raise InputError(f"{key}: {word}: {RESERVED[_key(word)]}")
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
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made
