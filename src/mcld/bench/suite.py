"""What to compare, and the cells that it spells out to."""

import functools
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcld.checks import check_names
from mcld.configs.compose import Command, compose
from mcld.configs.decisive import flatten
from mcld.configs.schema import Distill, Train
from mcld.configs.values import with_values
from mcld.errors import InputError
from mcld.runs.results import RESULTS, Results, read_results

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
        test: the words that turn its data into the test data; none where that is the validation data.
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
        words = tuple(word for word in self.words if self.command == "train" or key_of(word) != "seed")
        try:
            settings = _compose(self.command, words)
        except InputError as error:
            raise InputError(f"{self.id}: {error}") from error
        own: dict[str, Any] = {"seed": self.seed} if self.command == "distill" else {}
        return with_values(settings, {"run": str(self.run), "report": False, **own})  # the suite has a report

    def test_data(self) -> Any:
        """The data settings whose validation split is the test data.

        Raises:
            InputError: for words that cannot be right, or that leave the data as it is.
        """
        if not self.test:
            return self.settings().data
        words = tuple(word for word in merge_words(self.words, self.test) if key_of(word) != "seed")
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
        test: the words that turn the data into the test data, such as ``data.val=FILE``; none where the suite says
            ``validation``: the best epoch is then one on the images that are reported on, as it is in the field.
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
    named = {re.sub(r"^(teacher|student|model|schedule|optimizer)$", r"\1.name", key_of(word)) for word in cell.words}
    parts = []
    for key in [*now, *(key for key in then if key not in now)]:
        own = (cell.run.parents[2] / "teacher").absolute()
        own_teacher = cell.command == "distill" and Path(str(now.get(key))).absolute() == own
        if key == "report" or (key == "teacher.name" and own_teacher):  # its place depends on where the runs are
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
    merged = {key_of(word): word for group in groups for word in group}
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


def key_of(word: str) -> str:
    """The setting that a word is of."""
    return word.lstrip("+~").partition("=")[0]
