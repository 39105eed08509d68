"""The figures of a bench."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mcld.report.comparison import Comparison, Row
from mcld.report.svg import COLORS, OTHERS, OURS, SOFT, THEIRS, figure_of, style, svg_of
from mcld.runs.results import unpack_numbers

MOST_NAMES = 20
"""Classes up to which a heat map names them."""


def learning_curves(comparison: Comparison, name: str) -> str:
    """Validation top-1 over epochs, from 0: the mean of the seeds, with a band of one standard deviation."""
    figure = figure_of(4.0)
    with style():
        axes = figure.add_subplot()
        notable = comparison.notable
        for row in (row for row in comparison.rows if row not in notable):
            _curve(axes, row, OTHERS, None)
        for row, color in _colored(notable):
            _curve(axes, row, color, row.method)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", alpha=0.25)
        axes.set(xlabel="epoch", ylabel="validation top-1")
        axes.legend(loc="lower right", fontsize=9)
        return svg_of(figure, name)


def accuracy_and_cost(comparison: Comparison, name: str) -> str:
    """Test top-1 over seconds of an epoch, from 0: what timing noise there is stays as small as it is."""
    figure = figure_of(4.0)
    with style():
        axes = figure.add_subplot()
        notable = comparison.notable
        rest = [row for row in comparison.rows if row not in notable]
        axes.scatter([row.seconds.mean for row in rest], [row.last.mean for row in rest], color=OTHERS, s=24)
        for row, color in _colored(notable):
            top1, sd = row.last.mean, row.last.sd or 0
            axes.errorbar(row.seconds.mean, top1, yerr=sd, color=color, marker="o", capsize=2, label=row.method)
        axes.margins(x=0.12, y=0.12)
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.25)
        axes.set(xlabel="seconds per epoch", ylabel="test top-1, last epoch")
        axes.legend(loc="best", fontsize=9)
        return svg_of(figure, name)


def differences(comparison: Comparison, name: str) -> str:
    """Each method's difference to the baseline with its 95% interval, best first."""
    rows = [(row, found) for row in comparison.rows if (found := row.to_baseline)]
    rows.sort(key=lambda pair: pair[1].mean)
    labels = [f"{_wrap(row.method, 30)} ({found.seeds})" for row, found in rows]
    figure = figure_of(1.0 + (0.36 if any("\n" in label for label in labels) else 0.27) * len(rows))
    with style():
        axes = figure.add_subplot()
        for place, (row, found) in enumerate(rows):
            color = OURS if row.ours else THEIRS
            ends = [100 * found.low, 100 * found.high]
            axes.plot(ends, [place, place], color=color, linewidth=2, solid_capstyle="round")
            axes.plot(100 * found.mean, place, "o", color=color, markersize=5 if found.seeds > 1 else 4)
        axes.axvline(0, color=SOFT, linewidth=0.8)
        axes.set_yticks(range(len(rows)), labels, fontsize=9)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.grid(axis="x", alpha=0.25)
        axes.set(xlabel=f"points above {_wrap(str(comparison.baseline), 30)} (number of seeds)")
        return svg_of(figure, name)


def correlation_maps(comparison: Comparison, name: str) -> str:
    """For each notable method the difference of the classes' correlations from the teacher's, on one scale."""
    rows = comparison.notable
    maps = [np.mean([unpack_numbers(run.test["correlation_difference"]) for run in row.runs], axis=0) for row in rows]
    top = max(float(values.max()) for values in maps) or 1.0
    classes = rows[0].runs[0].test.get("classes") or []
    named = 0 < len(classes) <= MOST_NAMES
    figure, panels = _panels(len(rows), 2.6 if named else 1.75, columns=2 if named else 3)
    with style():
        image = None
        for axes, row, values in zip(panels, rows, maps, strict=False):
            image = axes.imshow(values, cmap="magma_r", vmin=0, vmax=top, interpolation="nearest")
            mean = values.sum() / (values.size - len(values)) if len(values) > 1 else 0.0
            axes.set_title(f"{_wrap(row.method)}\nmean {mean:.3f}", fontsize=9)
            if named:
                short = [_short(one) for one in classes]
                axes.set_xticks(range(len(short)), short, rotation=90, fontsize=6)
                axes.set_yticks(range(len(short)), short, fontsize=6)
            else:
                _bare(axes)
        if image is not None:
            figure.colorbar(image, ax=list(panels), shrink=0.8, label="|student − teacher|")
        return svg_of(figure, name)


def feature_maps(comparison: Comparison, name: str) -> str | None:
    """For each notable method t-SNE of its features of the same test images, coloured by class; None without any."""
    rows = [row for row in comparison.notable if row.runs[0].test["features"]]
    if not rows:
        return None
    figure, panels = _panels(len(rows), 1.75)
    with style():
        for axes, row in zip(panels, rows, strict=False):
            picture: dict[str, Any] = row.runs[0].test["features"]
            points = unpack_numbers(picture["points"])
            axes.scatter(points[:, 0], points[:, 1], c=picture["labels"], cmap="tab10", s=3, linewidths=0)
            axes.set_title(_wrap(row.method), fontsize=9)
            axes.set_aspect("equal", adjustable="datalim")
            _bare(axes)
        classes = rows[0].runs[0].test.get("classes") or []
        shown = sorted(set(rows[0].runs[0].test["features"]["labels"]))
        if classes:
            colors = mpl.colormaps["tab10"](np.linspace(0, 1, len(shown)) if len(shown) > 1 else [0.0])
            handles = [
                mpl.lines.Line2D(
                    [], [], marker="o", linestyle="", markersize=4, color=color, label=_short(classes[label])
                )
                for label, color in zip(shown, colors, strict=True)
            ]
            figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=7)
        return svg_of(figure, name)


def term_shares(comparison: Comparison, name: str) -> str:
    """For each notable method the share of each loss term over training, the mean of the seeds."""
    rows = comparison.notable
    figure, panels = _panels(len(rows), 1.9)
    names = list(dict.fromkeys(term for row in rows for term in row.runs[0].terms))
    colors = dict(zip(names, (THEIRS, OURS, *COLORS) * len(names), strict=False))
    with style():
        for axes, row in zip(panels, rows, strict=False):
            terms = row.runs[0].terms
            values = np.array([np.mean([np.abs(run.curve(term)) for run in row.runs], axis=0) for term in terms])
            shares = values / np.maximum(values.sum(axis=0), 1e-12)
            epochs = np.arange(1, shares.shape[1] + 1)
            axes.stackplot(epochs, shares, colors=[colors[term] for term in terms], linewidth=0)
            axes.set_title(_wrap(row.method), fontsize=9)
            axes.set(ylim=(0, 1), xlim=(1, max(2, epochs[-1])))
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            axes.tick_params(labelsize=8)
        handles = [mpl.patches.Patch(color=colors[term], label=term) for term in names]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(names)), fontsize=9)
        return svg_of(figure, name)


def _colored(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Each row with its colour: blue for the first with MCLD."""
    first = next((row for row in rows if row.ours), None)
    rest = iter(COLORS)
    return [(row, OURS if row is first else next(rest)) for row in rows]


def _curve(axes: Axes, row: Row, color: str, label: str | None) -> None:
    history = _history(row)
    mean = history.mean(axis=0)
    epochs = np.arange(1, len(mean) + 1)
    axes.plot(epochs, mean, color=color, label=label, linewidth=1.8 if label else 0.9)
    if label and len(history) > 1:
        sd = history.std(axis=0, ddof=1)
        axes.fill_between(epochs, mean - sd, mean + sd, color=color, alpha=0.15, linewidth=0)


def _history(row: Row) -> Any:
    length = min(len(run.curve("val_top1")) for run in row.runs)
    return np.array([run.curve("val_top1")[:length] for run in row.runs])


def _panels(count: int, height: float, columns: int = 3) -> tuple[Figure, Sequence[Axes]]:
    """Panels beside and below one another."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = figure_of(height * rows + 0.3)
    with style():
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, list(grid[:count])


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _wrap(name: str, width: int = 22) -> str:
    return textwrap.fill(name, width).replace("$", r"\$")


def _short(name: str) -> str:
    return (name if len(name) <= 14 else f"{name[:13]}…").replace("$", r"\$")
