"""The figures of a page about runs."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from mcld.report.svg import COLORS, OTHERS, OURS, SOFT, THEIRS, figure_of, style, svg_of

HEAT = "Blues"
MOST_BARS, MOST_CELLS = 30, 25
"""Classes up to which each has a bar, or a row and a column."""


def learning_curves(curves: Mapping[str, Sequence[float]], teacher: float | None, train: Sequence[float] | None) -> str:
    """Validation top-1 over epochs of each run, from 0; with the teacher's line, and one run's training top-1."""
    figure = figure_of(3.4)
    with style():
        axes = figure.add_subplot()
        for (name, values), color in zip(curves.items(), (OURS, *COLORS) * len(curves), strict=False):
            axes.plot(range(1, len(values) + 1), values, color=color, label=name, linewidth=1.8, marker=_marker(values))
        if train is not None:
            axes.plot(range(1, len(train) + 1), train, color=OTHERS, label="training images", linewidth=1.2)
        if teacher is not None:
            axes.axhline(teacher, color=THEIRS, linestyle=(0, (4, 3)), linewidth=1.2, label="teacher")
        values = [value for series in (*curves.values(), train or []) for value in series]
        axes.set_ylim(0, min(1.0, max([*values, teacher or 0.0]) * 1.08 + 0.01))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", alpha=0.25)
        axes.set(xlabel="epoch", ylabel="top-1")
        axes.legend(loc="lower right", fontsize=9)
        return svg_of(figure, "curves")


def loss_terms(terms: Mapping[str, Sequence[float]]) -> str:
    """Each weighted term of the loss over epochs."""
    figure = figure_of(3.0)
    with style():
        axes = figure.add_subplot()
        for (name, values), color in zip(terms.items(), (THEIRS, OURS, *COLORS) * len(terms), strict=False):
            axes.plot(range(1, len(values) + 1), values, color=color, label=name, linewidth=1.6, marker=_marker(values))
        axes.set_ylim(bottom=min(0.0, *(min(values) for values in terms.values())))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", alpha=0.25)
        axes.set(xlabel="epoch", ylabel="weighted term")
        axes.legend(loc="upper right", fontsize=9)
        return svg_of(figure, "terms")


def class_bars(names: Sequence[str], student: Sequence[float], teacher: Sequence[float] | None) -> str:
    """Accuracy of each class, the student's beside the teacher's; best first."""
    figure = figure_of(0.9 + (0.34 if teacher is None else 0.42) * len(names))
    with style():
        axes = figure.add_subplot()
        places = np.arange(len(names))[::-1]
        height = 0.7 if teacher is None else 0.36
        axes.barh(places + (0 if teacher is None else height / 2), student, height, color=OURS, label="student")
        if teacher is not None:
            axes.barh(places - height / 2, teacher, height, color=OTHERS, label="teacher")
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, 1 + 0.5 / (0.9 + 0.42 * len(names))), ncols=2, fontsize=9
            )
        axes.set_yticks(places, [_short(name) for name in names], fontsize=9)
        axes.set(xlim=(0, 1), ylim=(-0.7, len(names) - 0.3))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="x", alpha=0.25)
        return svg_of(figure, "classes")


def class_scatter(student: NDArray[np.float64], teacher: NDArray[np.float64]) -> str:
    """For many classes: the student's accuracy over the teacher's, a point for each class."""
    figure = figure_of(4.0)
    with style():
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.scatter(teacher, student, s=14, color=OURS, alpha=0.6, linewidths=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="teacher, accuracy of a class", ylabel="student")
        axes.grid(alpha=0.25)
        return svg_of(figure, "scatter")


def confusion(names: Sequence[str], counts: NDArray[np.int64]) -> str:
    """The confusion matrix: rows are the true classes, in shares of their images."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = figure_of(1.1 + 0.3 * len(names))
    with style():
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap=HEAT, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        size = 8 if len(names) <= 15 else 6.5
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "#ffffff" if shares[row, column] > 0.55 else "#1d2330"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=size, color=color)
        short = [_short(name, 16) for name in names]
        axes.set_xticks(range(len(names)), short, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(names)), short, fontsize=8)
        axes.set(xlabel="student says", ylabel="it is")
        image.set_clip_on(True)
        return svg_of(figure, "confusion")


def reliability(before: Sequence[tuple[float, float, int]], after: Sequence[tuple[float, float, int]]) -> str:
    """Accuracy over confidence in bins, (confidence, accuracy, images), before and after the fitted temperature."""
    figure = figure_of(3.6)
    with style():
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        for name, bins, color in (("as trained", before, THEIRS), ("at the fitted temperature", after, OURS)):
            most = max(count for *_, count in bins)
            sizes = [12 + 60 * count / most for *_, count in bins]
            axes.plot([c for c, *_ in bins], [a for _, a, _ in bins], color=color, linewidth=1.4, label=name)
            axes.scatter([c for c, *_ in bins], [a for _, a, _ in bins], s=sizes, color=color, linewidths=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="how sure the student is", ylabel="how often it is right")
        axes.grid(alpha=0.25)
        axes.legend(loc="upper left", fontsize=9)
        return svg_of(figure, "reliability")


def accuracy_and_size(points: Sequence[tuple[str, float, float]]) -> str:
    """Top-1 over parameters in millions: (name, parameters, top-1); the first is the teacher's where there is one."""
    figure = figure_of(3.0)
    with style():
        axes = figure.add_subplot()
        for (name, size, top1), color in zip(points, (THEIRS, OURS, *COLORS) * len(points), strict=False):
            axes.scatter([size / 1e6], [top1], s=40, color=color, label=_short(name, 34), linewidths=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axes.margins(0.15)
        axes.grid(alpha=0.25)
        axes.set(xlabel="million parameters", ylabel="validation top-1")
        axes.legend(loc="best", fontsize=9)
        return svg_of(figure, "size")


def _marker(values: Sequence[float]) -> str:
    return "o" if len(values) == 1 else ""


def _short(name: str, most: int = 24) -> str:
    """A name that fits beside an axis; matplotlib would read $ as mathematics."""
    return (name if len(name) <= most else name[: most - 1] + "…").replace("$", r"\$")
