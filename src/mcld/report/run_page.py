"""The page about runs: one in full, or several beside one another."""

import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

import mcld
from mcld.report import run_figures as figures
from mcld.report.answers import Answers, worth_a_look
from mcld.report.html import Figure, render
from mcld.report.run_facts import (
    ClassRow,
    RunFacts,
    class_rows,
    confusion_counts,
    differing_settings,
    reliability_bins,
    value_text,
    verdict,
    worst_pairs,
)

KINDS = {
    "mistakes": ("Surest mistakes", "Validation images that the student gets wrong, the surest first."),
    "teacher": ("Only the teacher is right", "The surest of the teacher first."),
    "student": ("Only the student is right", "The surest of the student first."),
}


def run_page(runs: Sequence[RunFacts]) -> tuple[str, list[Figure]]:
    """The page, and its figures.

    Args:
        runs: one to show it in full; of several the first is the one that the others are compared with.
    """
    first = runs[0]
    drawn = _figures(runs)
    rows = class_rows(first)
    page = render(
        "runs.html",
        {
            "title": first.name if len(runs) == 1 else " / ".join(run.name for run in runs),
            "subtitle": _subtitle(first),
            "verdict": verdict(runs),
            "notices": _notices(runs),
            "numbers": _numbers(runs),
            "figures": drawn,
            "classes": rows if len(rows) > figures.MOST_BARS else [],
            "pairs": worst_pairs(first),
            "galleries": _galleries(first) if len(runs) == 1 else [],
            "differing": differing_settings(runs) if len(runs) > 1 else [],
            "names": [run.name for run in runs],
            "settings": [(key, value_text(value)) for key, value in sorted(first.settings.items())]
            if len(runs) == 1
            else [],
            "facts": _facts(first),
            "commands": _commands(runs),
            "version": mcld.__version__,
        },
    )
    return page, drawn


def _subtitle(run: RunFacts) -> str:
    summary = run.summary
    words = [summary["network"]["name"], str(summary["data"]), f"{summary['epochs']} epochs", f"seed {summary['seed']}"]
    if run.teacher is not None:
        words[0] = f"{run.teacher['name']} → {words[0]}"
    if summary["method"]:
        words.insert(1, f"method {summary['method']}")
    return ", ".join(words)


def _notices(runs: Sequence[RunFacts]) -> list[str]:
    found = []
    without = [run.name for run in runs if run.answers is None]
    if without:
        found.append(
            f"Not known of {', '.join(without)}: the answers on the validation images. What needs them is left out; "
            "with the data and the teacher at hand: mcld report RUN."
        )
    if len({run.environment.get("inputs", {}).get("validation data") for run in runs}) > 1:
        found.append("These runs were validated on different images: their numbers do not compare.")
    few = [row for row in class_rows(runs[0]) if row.images < 20]
    if few:
        found.append(
            f"{len(few)} of {len(runs[0].classes)} classes have fewer than 20 validation images: what is said of a "
            "single class is rough."
        )
    return found


def _numbers(runs: Sequence[RunFacts]) -> list[tuple[str, list[str]]]:
    """Rows of the table: a title, and a cell for each run and for the teacher, where there is one."""
    first = runs[0]
    teacher = first.teacher
    columns: list[tuple[str, RunFacts | None, dict[str, Any]]] = [
        (run.name, run, {**run.summary["network"], **run.summary["last"]}) for run in runs
    ]
    if teacher:  # last: a phone shows the first columns
        columns.append((f"teacher {teacher['name']}", None, teacher))
    rows: list[tuple[str, list[str]]] = [("", [name for name, *_ in columns])]

    def row(title: str, cells: list[str]) -> None:
        if any(cell != "–" for cell in cells):
            rows.append((title, cells))

    row("top-1, last epoch", [f"{values['top1']:.2%}" for *_, values in columns])
    row(
        "top-1, best epoch (chosen on these images)",
        [
            f"{run.summary['best']['top1']:.2%} ({run.summary['best']['epoch']})" if run else "–"
            for _, run, _ in columns
        ],
    )
    row("top-5", [f"{values['top5']:.2%}" for *_, values in columns])
    row("mean over the classes", [_mean(first, True) if run is None else _mean(run) for _, run, _ in columns])
    row("agrees with the teacher", [_share(values.get("agreement")) for *_, values in columns])
    known = [None if run is None else run.answers for _, run, _ in columns]
    row("calibration error, as trained", [_share(a.error[0] if a else None) for a in known])
    fitted = [f"{a.error[1]:.2%} (T {a.temperature:.2f})" if a else "–" for a in known]
    row("calibration error, at the fitted temperature", fitted)
    row("parameters", [f"{values['parameters']:,}" for *_, values in columns])
    row("multiply-accumulates", [f"{values['macs'] / 1e6:,.4g} M" for *_, values in columns])
    row("training time", [_duration(run.summary["seconds"]) if run else "–" for _, run, _ in columns])
    return rows


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _mean(run: RunFacts, of_teacher: bool = False) -> str:
    """The accuracy averaged over the classes."""
    rows = class_rows(run)
    if not rows or (of_teacher and rows[0].teacher_right is None):
        return "–"
    return f"{np.mean([row.teacher_accuracy if of_teacher else row.accuracy for row in rows]):.2%}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _figures(runs: Sequence[RunFacts]) -> list[Figure]:
    first = runs[0]
    teacher = first.teacher["top1"] if first.teacher else None
    many = len(runs) > 1
    drawn = [
        Figure(
            "curves",
            "Learning curves",
            figures.learning_curves(
                {run.name: run.curve("val_top1") for run in runs},
                teacher,
                None if many else first.curve("train_top1"),
            ),
            "Top-1 over epochs; " + "; ".join(f"{run.name} ends at {run.top1:.1%}" for run in runs),
            "Top-1 on the validation images after each epoch"
            + ("." if many else ", and on the augmented training images during it.")
            + (" Dashed: the teacher." if teacher is not None else ""),
        )
    ]
    if many:
        points = [(run.name, float(run.summary["network"]["parameters"]), run.top1) for run in runs]
        if first.teacher:
            points.insert(0, ("teacher", float(first.teacher["parameters"]), float(first.teacher["top1"])))
        drawn.append(
            Figure(
                "size",
                "Accuracy and size",
                figures.accuracy_and_size(points),
                "; ".join(f"{name}: {size:,.0f} parameters, {top1:.1%}" for name, size, top1 in points),
                "Validation top-1 of the last weights over the number of parameters.",
            )
        )
        return drawn
    drawn.append(
        Figure(
            "terms",
            "Loss",
            figures.loss_terms(first.terms),
            "The terms of the loss over epochs: " + ", ".join(first.terms),
            "Each term times its weight, the mean over an epoch; ce is the cross-entropy with the labels.",
        )
    )
    if first.answers is not None:
        drawn += _answer_figures(first, first.answers)
    return drawn


def _answer_figures(run: RunFacts, answers: Answers) -> list[Figure]:
    rows = class_rows(run)
    right = answers.predicted == answers.labels
    before, after = reliability_bins(answers.confidence, right), reliability_bins(answers.calibrated, right)
    drawn = [
        Figure(
            "reliability",
            "How far its probabilities can be trusted",
            figures.reliability(before, after),
            f"Calibration error {answers.error[0]:.1%} as trained, {answers.error[1]:.1%} at the fitted temperature",
            f"Images sorted by how sure the student is. On the line it is right as often as it says. Calibration error "
            f"{answers.error[0]:.1%} as trained, {answers.error[1]:.1%} at the temperature {answers.temperature:.2f} "
            "that was fitted on these images (so it is optimistic).",
        )
    ]
    if len(rows) <= figures.MOST_BARS:
        drawn.append(_bars(rows))
    elif rows[0].teacher_right is not None:
        drawn.append(
            Figure(
                "scatter",
                "Accuracy of each class",
                figures.class_scatter(
                    np.array([row.accuracy for row in rows]), np.array([row.teacher_accuracy for row in rows])
                ),
                "The student's accuracy of each class over the teacher's",
                "A point for each class: below the line the teacher is better. The numbers are below.",
            )
        )
    if len(run.classes) <= figures.MOST_CELLS:
        drawn.append(
            Figure(
                "confusion",
                "What it takes for what",
                figures.confusion(run.classes, confusion_counts(run)),
                "Confusion matrix; the commonest mistakes are in the table",
                "Validation images by what they are (rows) and what the student says (columns).",
            )
        )
    return drawn


def _bars(rows: Sequence[ClassRow]) -> Figure:
    teacher = [row.teacher_accuracy for row in rows] if rows[0].teacher_right is not None else None
    return Figure(
        "classes",
        "Accuracy of each class",
        figures.class_bars([f"{row.name} ({row.images})" for row in rows], [row.accuracy for row in rows], teacher),
        "; ".join(f"{row.name}: {row.right} of {row.images}" for row in rows),
        "Share of the class's validation images (their number in brackets) that are right.",
    )


def _galleries(run: RunFacts) -> list[dict[str, Any]]:
    """Images to look at, kind by kind."""
    answers = run.answers
    if answers is None:
        return []
    found = []
    for kind, images in worth_a_look(answers).items():
        shown = [image for image in images if image in answers.pictures]
        if not shown:
            continue
        title, text = KINDS[kind]
        found.append({"title": title, "text": text, "images": [_shown(run, answers, image) for image in shown]})
    return found


def _shown(run: RunFacts, answers: Answers, image: int) -> dict[str, Any]:
    says = [f"student: {run.classes[answers.predicted[image]]} {answers.calibrated[image]:.0%}"]
    if answers.teacher is not None and answers.teacher_confidence is not None:
        says.append(f"teacher: {run.classes[answers.teacher[image]]} {answers.teacher_confidence[image]:.0%}")
    return {"png": answers.pictures[image], "is": run.classes[answers.labels[image]], "says": says}


def _facts(run: RunFacts) -> list[tuple[str, str]]:
    environment, images = run.environment, run.summary["images"]
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items() if version)
    hardware = f"{environment.get('processor')}, {environment.get('threads')} threads"
    if environment.get("gpus"):
        hardware += f", {', '.join(environment['gpus'])}"
    git = environment.get("git")
    facts = [
        ("Images", f"{images['train']:,} to train on, {images['validation']:,} for every number here (validation)."),
        ("Views to train on", str(run.summary["views"])),
        ("Protocol", str(run.summary["protocol"])),
        ("Hardware", hardware),
        ("Versions", f"{packages}, Python {environment.get('python')}"),
        ("Begun", str(environment.get("date"))),
    ]
    if git:
        facts.append(("Commit", f"{git['commit'][:12]}{' with changes' if git['changed'] else ''}"))
    return facts


def _commands(runs: Sequence[RunFacts]) -> list[str]:
    lines = []
    for run in runs:
        command = run.environment.get("command")
        if isinstance(command, list) and command:
            lines.append(" ".join(["mcld", *map(_quoted, command[1:])]))
    shown = " ".join(_quoted(run.path) for run in runs)
    return [*lines, f"mcld report {shown}"]


def _quoted(word: str) -> str:
    return shlex.quote(str(word))
