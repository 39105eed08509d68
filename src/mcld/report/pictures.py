"""The pictures of a bench, as SVG."""

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mcld.report.comparison import Comparison, Row
from mcld.runs.results import unpack_numbers

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "svg.fonttype": "path",
    "svg.hashsalt": "mcld",
}
WIDTH = 5.6  # inches: narrow, so that its letters can be read on a phone
OTHERS = "#c3c7cf"
OURS, THEIRS = "#2563eb", "#6b7280"
COLORS = ("#d97706", "#059669", "#be185d", "#7c3aed", "#0891b2", "#b91c1c", "#4d7c0f", "#92400e")


def learning_curves(comparison: Comparison) -> str:
    """Validation top-1 over epochs: the mean of the seeds, with a band of one standard deviation."""
    figure, axes = _figure(4.0)
    notable = comparison.notable
    for row in (row for row in comparison.rows if row not in notable):
        _curve(axes, row, OTHERS, None)
    for row, color in _colored(notable):
        _curve(axes, row, color, row.method)
    finals = [_history(row).mean(axis=0)[_history(row).shape[1] // 3 :] for row in comparison.rows]
    low, high = min(map(np.min, finals)), max(map(np.max, finals))
    axes.set_ylim(max(0, low - 0.05 * (high - low) - 0.005), min(1, high + 0.08 * (high - low) + 0.005))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.25)
    axes.set(xlabel="epoch", ylabel="validation top-1")
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return _svg(figure)


def accuracy_and_cost(comparison: Comparison) -> str:
    """Test top-1 over seconds of an epoch."""
    figure, axes = _figure(4.0)
    notable = comparison.notable
    rest = [row for row in comparison.rows if row not in notable]
    axes.scatter([row.seconds.mean for row in rest], [row.last.mean for row in rest], color=OTHERS, s=24)
    for row, color in _colored(notable):
        axes.errorbar(
            row.seconds.mean, row.last.mean, yerr=row.last.sd or 0, color=color, marker="o", capsize=2, label=row.method
        )
    axes.margins(x=0.12, y=0.12)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.25)
    axes.set(xlabel="seconds per epoch", ylabel="test top-1, last epoch")
    axes.legend(loc="best", frameon=False, fontsize=9)
    return _svg(figure)


def differences(comparison: Comparison) -> str:
    """Each method's difference to the baseline with its 95% interval, best first."""
    rows = sorted((r for r in comparison.rows if r.to_baseline), key=lambda row: row.to_baseline.mean)  # type: ignore[union-attr]
    labels = [f"{_wrap(row.method, 30)} ({row.to_baseline.seeds})" for row in rows if row.to_baseline]
    figure, axes = _figure(1.0 + (0.36 if any("\n" in label for label in labels) else 0.27) * len(rows))
    for place, row in enumerate(rows):
        found = row.to_baseline
        assert found is not None
        color = OURS if row.ours else THEIRS
        axes.plot([100 * found.low, 100 * found.high], [place, place], color=color, linewidth=2, solid_capstyle="round")
        axes.plot(100 * found.mean, place, "o", color=color, markersize=5 if found.seeds > 1 else 4)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), labels, fontsize=9)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.grid(axis="x", alpha=0.25)
    axes.set(xlabel=f"points above {_wrap(str(comparison.baseline), 30)} (number of seeds)")
    return _svg(figure)


def correlation_maps(comparison: Comparison) -> str:
    """For each notable method the difference of the classes' correlations from the teacher's, on one scale."""
    rows = comparison.notable
    maps = [np.mean([unpack_numbers(run.test["correlation_difference"]) for run in row.runs], axis=0) for row in rows]
    top = max(float(values.max()) for values in maps) or 1.0
    figure, panels = _panels(len(rows), 1.75)
    image = None
    for axes, row, values in zip(panels, rows, maps, strict=False):
        image = axes.imshow(values, cmap="magma_r", vmin=0, vmax=top, interpolation="nearest")
        mean = values.sum() / (values.size - len(values)) if len(values) > 1 else 0.0
        axes.set_title(f"{_wrap(row.method)}\nmean {mean:.3f}", fontsize=9)
        _bare(axes)
    if image is not None:
        figure.colorbar(image, ax=list(panels), shrink=0.8, label="|student − teacher|")
    return _svg(figure)


def feature_maps(comparison: Comparison) -> str | None:
    """For each notable method t-SNE of its features of the same test images, coloured by class; None without any."""
    rows = [row for row in comparison.notable if row.runs[0].test["features"]]
    if not rows:
        return None
    figure, panels = _panels(len(rows), 1.75)
    for axes, row in zip(panels, rows, strict=False):
        picture: dict[str, Any] = row.runs[0].test["features"]
        points = unpack_numbers(picture["points"])
        axes.scatter(points[:, 0], points[:, 1], c=picture["labels"], cmap="tab10", s=3, linewidths=0)
        axes.set_title(_wrap(row.method), fontsize=9)
        axes.set_aspect("equal", adjustable="datalim")
        _bare(axes)
    return _svg(figure)


def term_shares(comparison: Comparison) -> str:
    """For each notable method the share of each loss term over training, the mean of the seeds."""
    rows = comparison.notable
    figure, panels = _panels(len(rows), 1.9)
    names = list(dict.fromkeys(name for row in rows for name in row.runs[0].terms))
    colors = dict(zip(names, (THEIRS, OURS, *COLORS) * len(names), strict=False))
    for axes, row in zip(panels, rows, strict=False):
        terms = row.runs[0].terms
        values = np.array([np.mean([np.abs(run.curve(name)) for run in row.runs], axis=0) for name in terms])
        shares = values / np.maximum(values.sum(axis=0), 1e-12)
        epochs = np.arange(1, shares.shape[1] + 1)
        axes.stackplot(epochs, shares, colors=[colors[name] for name in terms], linewidth=0)
        axes.set_title(_wrap(row.method), fontsize=9)
        axes.set(ylim=(0, 1), xlim=(1, max(2, epochs[-1])))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.tick_params(labelsize=8)
    handles = [mpl.patches.Patch(color=colors[name], label=name) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(names)), frameon=False, fontsize=9)
    return _svg(figure)


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


def _figure(height: float) -> tuple[Figure, Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        return figure, figure.add_subplot()


def _panels(count: int, height: float) -> tuple[Figure, Sequence[Axes]]:
    """At most three panels beside one another."""
    columns = min(3, count)
    rows = -(-count // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height * rows + 0.3), layout="constrained")
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
    return textwrap.fill(name, width)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
