"""Pages from templates: every value is escaped unless it is a figure of ours."""

import base64
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mcld.files import atomic_write_text
from mcld.report.svg import as_file
from mcld.text import printable


@dataclass(frozen=True)
class Figure:
    """One figure of a page.

    Attributes:
        name: of its file, letters and hyphens.
        title: above it.
        svg: the picture, from :func:`mcld.report.svg.svg_of`.
        alt: what it shows, for those who cannot see it.
        caption: how to read it.
        wide: whether it takes the whole width of the page.
    """

    name: str
    title: str
    svg: str
    alt: str
    caption: str
    wide: bool = False


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page that opens anywhere: no scripts, no other files, light and dark, wide and narrow.

    Args:
        template: its file name in ``templates``.
        values: what it asks for.
    """
    return _environment().get_template(template).render(**values)


def write_figures(figures: Iterable[Figure], folder: Path) -> None:
    """Write the figures as files of their own into ``figures`` in the folder."""
    place = folder / "figures"
    place.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        atomic_write_text(place / f"{figure.name}.svg", as_file(figure.svg))


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("mcld.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"inline": Markup, "data_uri": _data_uri, "per_cent": _per_cent, "clean": printable}
    return made


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _per_cent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}%"
