"""Figures as SVG that takes the colours of the page around it, so that it can be read on white and on black."""

import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, SOFT = "#010203", "#040506"
"""Stand-ins for the page's colours of text and of what is less important."""
OURS, THEIRS, OTHERS = "#3b82f6", "#8b93a3", "#b9bfca"
COLORS = ("#d97706", "#0d9f6e", "#d6418f", "#8b5cf6", "#0891b2", "#dc4c4c", "#65a30d", "#a8672a")
WIDTH = 5.6
"""Inches: narrow, so that its letters can be read on a phone."""

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": SOFT,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "legend.frameon": False,
}


def figure_of(height: float) -> Figure:
    """An empty figure of the width of all, ``height`` inches high; draw in it within :func:`style`."""
    with style():
        return Figure(figsize=(WIDTH, height), layout="constrained")


def style() -> Any:
    """The style of all figures, as a context."""
    return mpl.rc_context(STYLE)


def svg_of(figure: Figure, name: str) -> str:
    """The figure as one ``<svg>`` element for a page, its text as text.

    Args:
        figure: as :func:`figure_of` made it.
        name: letters and hyphens, unlike those of other figures on the page: ids begin with it.
    """
    text = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name, "svg.id": name}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    element = text.getvalue()[text.getvalue().index("<svg") :]
    element = re.sub(r'\bid="(?!' + name + '")', f'id="{name}-', element)
    element = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", element)
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r' (?:width|height)="[\d.]+pt"', "", element, count=2)
    return element.replace(INK, "currentColor").replace(SOFT, "var(--soft, #5b6475)").strip()


def as_file(svg: str) -> str:
    """The element as a file of its own, in black on white."""
    plain = svg.replace("currentColor", "#1d2330").replace("var(--soft, #5b6475)", "#5b6475")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + plain.replace(
        ">", '><rect width="100%" height="100%" fill="#fff"/>', 1
    )
