"""Which data sets there are, and where each is read."""

import dataclasses
import importlib
from dataclasses import dataclass
from typing import Any

from mcld.checks import check_names
from mcld.configs import data as options
from mcld.configs.values import MISSING, convert, leaves
from mcld.data._types import DataSet
from mcld.data.policies import POLICIES
from mcld.errors import InputError


@dataclass(frozen=True)
class DataEntry:
    """A data set that mcld can read.

    Attributes:
        name: for ``load_data`` and ``data=``.
        title: one line on what it is.
        needs: where the files come from: ``packaged`` (a dependency ships them), ``downloaded`` or ``your path``.
        options: the dataclass of its options.
        module: where ``load(options)`` is.
    """

    name: str
    title: str
    needs: str
    options: type[options.DataOptions]
    module: str


_ENTRIES = (
    DataEntry("digits", "1,797 handwritten digits, 8×8 grey, 10 classes", "packaged", options.Digits, "digits"),
    DataEntry("mnist5k", "5,000 MNIST digits, 28×28 grey, 10 classes", "packaged", options.Mnist5k, "mnist5k"),
    DataEntry("cifar10", "60,000 photos, 32×32, 10 classes", "downloaded", options.Cifar10, "cifar"),
    DataEntry("cifar100", "60,000 photos, 32×32, 100 classes", "downloaded", options.Cifar100, "cifar"),
    DataEntry("stl10", "13,000 labelled photos, 96×96, 10 classes", "downloaded", options.Stl10, "stl10"),
    DataEntry(
        "tiny_imagenet", "110,000 photos, 64×64, 200 classes", "downloaded", options.TinyImageNet, "tiny_imagenet"
    ),
    DataEntry("imagenet", "ILSVRC folders by synset, up to 1,000 classes", "your path", options.ImageNet, "imagenet"),
    DataEntry("folder", "image files, one sub-folder per class", "your path", options.Folder, "folder"),
    DataEntry("arrays", "images and labels in npz files", "your path", options.Arrays, "arrays"),
)


_RANGES = {
    "batch_size": (1, 1_000_000),
    "workers": (0, 256),
    "classes": (1, 1_000_000),
    "padding": (0, 10_000),
    "image_size": (1, 8192),
    "max_megapixels": (1, 1_000_000),
    "max_gb": (1e-6, 1_000_000),
}
"""What is no mistake of typing, by option."""


def list_data() -> list[DataEntry]:
    """All data sets, packaged ones first."""
    return list(_ENTRIES)


def load_data(name: str, **given: Any) -> DataSet:
    """Read a data set.

    Args:
        name: one of ``list_data()``.
        **given: its options; see the dataclass of that name in ``mcld.configs.data``.

    Raises:
        InputError: for an unknown name or option, a wrong value, or files that are missing, damaged or laid out
        otherwise.
    """
    check_names("data set", [name], [entry.name for entry in _ENTRIES])
    entry = next(entry for entry in _ENTRIES if entry.name == name)
    made = _options(entry, given)
    loaded: DataSet = importlib.import_module(f"mcld.data.{entry.module}").load(made)
    return loaded


def _options(entry: DataEntry, given: dict[str, Any]) -> options.DataOptions:
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
    kinds = {key: kind for key, kind, _ in leaves(entry.options())}
    values = {}
    for key, value in given.items():
        try:
            values[key] = convert(kinds[key], value)
        except InputError as error:
            raise InputError(f"data set {entry.name!r}: option {key!r} is {value!r}: {error}") from None
    result = entry.options(**values)
    for key, (least, most) in _RANGES.items():
        value = getattr(result, key, None)
        if value is not None and not least <= value <= most:
            words = f"at least {least}" if value < least else f"at most {most:,}"
            raise InputError(f"data set {entry.name!r}: option {key!r} is {value}; expected {words}")
    for key in ("policy", "second_policy"):
        value = getattr(result, key) or "none"
        if value not in POLICIES:
            raise InputError(
                f"data set {entry.name!r}: option {key!r} is {value!r}; expected one of {', '.join(POLICIES)}"
            )
        if value != "none" and not result.augment:
            raise InputError(
                f"data set {entry.name!r}: option {key!r} is {value!r} and 'augment' is false; expected {key} "
                "'none' for images without augmentation"
            )
    return result
