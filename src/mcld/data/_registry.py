"""Which data sets there are, and reading one by name."""

import dataclasses
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcld.checks import check_names
from mcld.configs.values import convert
from mcld.data._types import DataSet
from mcld.data.options import DataOptions
from mcld.errors import InputError
from mcld.options import MISSING, check_option
from mcld.registry import DATA

ORDER = ("packaged", "downloaded", "your path")


@dataclass(frozen=True)
class DataEntry:
    """A data set that mcld can read.

    Attributes:
        name: for ``load_data`` and ``data=``.
        title: one line on what it is.
        needs: where the files come from: ``packaged`` (a dependency ships them), ``downloaded`` or ``your path``.
        options: the dataclass of its options.
        load: reads it, with an instance of that.
    """

    name: str
    title: str
    needs: str
    options: type[DataOptions]
    load: Callable[[Any], DataSet]

    def make_options(self, **given: Any) -> DataOptions:
        """Its options, those not given with their defaults."""
        return self.options(**{**given, "name": self.name})


def list_data() -> list[DataEntry]:
    """All data sets, ours and those of other packages; packaged ones first."""
    return sorted(DATA.items().values(), key=lambda entry: ORDER.index(entry.needs) if entry.needs in ORDER else 9)


def load_data(name: str, **given: Any) -> DataSet:
    """Read a data set.

    Args:
        name: one of ``list_data()``.
        **given: its options; ``mcld data NAME`` explains them.

    Raises:
        InputError: for an unknown name or option, a wrong value, or files that are missing, damaged or laid out
        otherwise.
    """
    entry = DATA.get(name)
    return entry.load(_options(entry, given))


def _options(entry: DataEntry, given: dict[str, Any]) -> DataOptions:
    known = [field.name for field in dataclasses.fields(entry.options)]
    check_names(f"option of data set {entry.name!r}:", given, [key for key in known if key != "name"])
    required = [f.name for f in dataclasses.fields(entry.options) if f.default == MISSING and f.name != "name"]
    missing = [key for key in required if given.get(key, MISSING) in (MISSING, None)]
    if missing:
        raise InputError(
            f"data set {entry.name!r} needs {' and '.join(missing)}: "
            + " ".join(f"data.{key}=PATH" for key in missing)
            + f" on the command line, or load_data({entry.name!r}, {', '.join(f'{key}=PATH' for key in missing)})"
        )
    kinds = typing.get_type_hints(entry.options, include_extras=True)
    plain = typing.get_type_hints(entry.options)
    values = {}
    for key, value in given.items():
        try:
            values[key] = convert(plain[key], value)
        except InputError as error:
            raise InputError(f"data set {entry.name!r}: option {key!r} is {value!r}: {error}") from None
    result = entry.make_options(**values)
    for key in known:
        check_option(f"data set {entry.name!r}: option {key!r}", getattr(result, key), kinds[key])
    for key in ("policy", "second_policy"):
        value = getattr(result, key) or "none"
        if value != "none" and not result.augment:
            raise InputError(
                f"data set {entry.name!r}: option {key!r} is {value!r} and 'augment' is false; expected {key} "
                "'none' for images without augmentation"
            )
    return result
