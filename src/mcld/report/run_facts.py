"""What a page about runs says, from the files of their run directories."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcld.configs.compose import settings_from_yaml
from mcld.configs.decisive import flatten
from mcld.errors import InputError
from mcld.files import open_regular
from mcld.plugins import check_plugins
from mcld.report.answers import Answers, read_answers
from mcld.runs import RunDirectory

FEW = 5
"""Validation images of a class below which its accuracy says little."""


@dataclass(frozen=True)
class RunFacts:
    """One run.

    Attributes:
        name: of its directory.
        path: as it was given.
        settings: all that decide what it computes, by dotted key.
        classes: names, in the order of the logits.
        history: one row per epoch.
        summary: as in ``summary.json``.
        environment: as in ``environment.json``.
        answers: on the validation images; None where they are not known.
    """

    name: str
    path: str
    settings: dict[str, Any]
    classes: Sequence[str]
    history: Sequence[dict[str, float]]
    summary: dict[str, Any]
    environment: dict[str, Any]
    answers: Answers | None

    @property
    def top1(self) -> float:
        """Of the last weights on the validation images, in [0, 1]."""
        return float(self.summary["last"]["top1"])

    @property
    def teacher(self) -> dict[str, Any] | None:
        """The teacher's part of the summary, where there is one."""
        found: dict[str, Any] | None = self.summary["teacher"]
        return found

    @property
    def alone(self) -> bool:
        """Whether it learnt from labels alone."""
        return self.summary["method"] in (None, "plain")

    @property
    def terms(self) -> dict[str, list[float]]:
        """The weighted terms of the loss over the epochs, cross-entropy first."""
        columns = list(self.history[0])
        names = columns[columns.index("loss") + 1 : columns.index("train_top1")]
        return {name: self.curve(name) for name in names}

    def curve(self, column: str) -> list[float]:
        """A column of ``metrics.csv``."""
        return [row[column] for row in self.history]


def read_facts(path: str) -> RunFacts:
    """Read the files of a finished run.

    Raises:
        InputError: when it is no run directory, is not finished, or is damaged.
    """
    run = RunDirectory.open(path)
    if not run.summary.is_file():
        raise InputError(f"{path} is not finished; first go on with it: mcld resume {path}")
    check_plugins(run.plugins, path)
    model = run.read_json(run.model)
    answers = read_answers(run.answers) if run.answers.is_file() else None
    if answers is not None and answers.weights != weights_digest(run):
        answers = None  # of other weights
    classes = model.get("classes") or [str(label) for label in range(int(model["num_classes"]))]
    return RunFacts(
        name=Path(path).resolve().name,
        path=path,
        settings=flatten(settings_from_yaml(run.config)),
        classes=[str(name) for name in classes],
        history=run.read_metrics(),
        summary=run.read_json(run.summary),
        environment=run.read_json(run.environment),
        answers=answers,
    )


def weights_digest(run: RunDirectory) -> str:
    """The SHA-256 of the file of a run's last weights.

    Raises:
        InputError: when it cannot be read.
    """
    file = run.weights("last")
    try:
        with open_regular(file) as content:
            digest = hashlib.sha256()
            while part := content.read(2**20):
                digest.update(part)
            return digest.hexdigest()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True)
class ClassRow:
    """One class on the validation images.

    Attributes:
        name: of the class.
        images: of this class.
        right: those that the student gets right.
        teacher_right: those that the teacher gets right; None without one.
    """

    name: str
    images: int
    right: int
    teacher_right: int | None

    @property
    def accuracy(self) -> float:
        """The student's, in [0, 1]."""
        return self.right / self.images

    @property
    def teacher_accuracy(self) -> float:
        """The teacher's, in [0, 1]."""
        return (self.teacher_right or 0) / self.images


def class_rows(facts: RunFacts) -> list[ClassRow]:
    """The classes that have validation images, the best first."""
    answers = facts.answers
    if answers is None:
        return []
    count = len(facts.classes)
    images = np.bincount(answers.labels, minlength=count)
    right = np.bincount(answers.labels[answers.predicted == answers.labels], minlength=count)
    teacher = None
    if answers.teacher is not None:
        teacher = np.bincount(answers.labels[answers.teacher == answers.labels], minlength=count)
    rows = [
        ClassRow(name, int(images[i]), int(right[i]), None if teacher is None else int(teacher[i]))
        for i, name in enumerate(facts.classes)
        if images[i]
    ]
    return sorted(rows, key=lambda row: (-row.accuracy, row.name))


def confusion_counts(facts: RunFacts) -> NDArray[np.int64]:
    """(C, C) validation images by true class (rows) and the student's class (columns)."""
    answers, count = facts.answers, len(facts.classes)
    if answers is None:
        return np.zeros((count, count), dtype=np.int64)
    flat = np.bincount(answers.labels * count + answers.predicted, minlength=count * count)
    return flat.reshape(count, count).astype(np.int64)


def worst_pairs(facts: RunFacts, most: int = 15) -> list[tuple[str, str, int, int]]:
    """The commonest mistakes: (what it is, what the student says, how often, images of that class)."""
    counts = confusion_counts(facts)
    images = counts.sum(axis=1)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(int(row), int(column)) for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)]
    return [
        (facts.classes[row], facts.classes[column], int(wrong[row, column]), int(images[row]))
        for row, column in pairs
        if wrong[row, column]
    ]


def reliability_bins(
    confidence: NDArray[np.float32], right: NDArray[np.bool_], bins: int = 15
) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, images) of the images in each bin of confidence that has any."""
    place = np.clip(np.ceil(confidence * bins).astype(int), 1, bins) - 1
    found = []
    for number in range(bins):
        own = place == number
        if own.any():
            found.append((float(confidence[own].mean()), float(right[own].mean()), int(own.sum())))
    return found


def verdict(runs: Sequence[RunFacts]) -> str:
    """The result in a sentence or two."""
    first = runs[0]
    parts = [_against_alone(first, runs[1:]) if len(runs) > 1 else "", _against_teacher(first)]
    said = [part for part in parts if part] or [f"{first.top1:.1%} top-1 on {_images(first)} validation images"]
    worst = next((row for row in reversed(class_rows(first)) if row.images >= FEW), None)
    if worst is not None and worst.accuracy < first.top1 / 2:
        said.append(f"{worst.name}: {worst.right} of {worst.images} right")
    if len(runs) > 1:
        best = max(runs, key=lambda run: run.top1)
        if best is not first:
            said.append(f"the best here is {best.name}, with {best.top1:.1%}")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _against_alone(run: RunFacts, others: Sequence[RunFacts]) -> str:
    """Its distance from a run of the same network on labels alone."""
    network = run.summary["network"]["name"]
    alone = next((other for other in others if other.alone and other.summary["network"]["name"] == network), None)
    if alone is None or run.alone:
        return ""
    gap = 100 * (run.top1 - alone.top1)
    return f"{abs(gap):.1f} points {'above' if gap >= 0 else 'below'} the same student alone ({alone.top1:.1%})"


def _against_teacher(run: RunFacts) -> str:
    if run.teacher is None:
        return ""
    gap = 100 * (run.top1 - float(run.teacher["top1"]))
    share = run.summary["network"]["parameters"] / run.teacher["parameters"]
    side = "above" if gap >= 0 else "below"
    return (
        f"{run.top1:.1%} top-1, {abs(gap):.1f} points {side} its teacher ({run.teacher['top1']:.1%}), "
        f"with {share:.1%} of its parameters"
    )


def _images(run: RunFacts) -> str:
    return f"{run.summary['images']['validation']:,}"


def differing_settings(runs: Sequence[RunFacts]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all of these runs, with each run's value."""
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    rows = [(key, [value_text(run.settings.get(key)) for run in runs]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def value_text(value: Any) -> str:
    """A setting's value as a page shows it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
