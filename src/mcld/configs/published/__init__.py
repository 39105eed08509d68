"""The published rows of the field, as data: recipes, and the numbers that were reported for them.

Each number names its source; the options of a pair are the methods' own presets; what had to be assumed of a recipe is
in the row's ``note``.
"""

import functools

from mcld.configs.published import _cifar100, _imagenet
from mcld.configs.published._types import Number, Recipe, Row
from mcld.errors import unknown_name
from mcld.methods import list_methods, method_class

__all__ = ["Number", "Recipe", "Row", "absent", "find_row", "published_rows"]


@functools.cache
def published_rows() -> tuple[Row, ...]:
    """All rows: for each data set networks alone, then pair by pair."""
    found = [*_cifar100.rows(), *_imagenet.rows()]
    pairs = list(dict.fromkeys((row.command == "distill", row.pair) for row in found))
    found.sort(key=lambda row: (row.data, row.command == "distill", pairs.index((row.command == "distill", row.pair))))
    return tuple(found)


def find_row(name: str) -> Row:
    """The row with this id.

    Raises:
        InputError: when there is none, with the nearest.
    """
    by_id = {row.id: row for row in published_rows()}
    if name not in by_id:
        raise unknown_name("published row", name, by_id, more="see: mcld published", most=3)
    return by_id[name]


def absent(row: Row) -> str:
    """Why a row cannot be run here, in a few words; empty when it can."""
    if row.method not in list_methods():
        return f"the method {row.method} ({row.title}) is not here (yet)"
    known = method_class(row.method).option_names()
    missing = [key for key in row.options if key not in known]
    if missing:
        return f"the method {row.method} has no option {', '.join(missing)} here (yet)"
    return ""
