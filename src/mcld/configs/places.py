"""``data=PATH`` alone: what lies there is seen, and stands in the settings by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcld.data.folder import find_npz
from mcld.errors import InputError
from mcld.files import home_path
from mcld.registry import DATA


def with_data_seen(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are asked for, a path for the name of a data set replaced by what lies there.

    A registered name counts before a folder of that name; ``./NAME`` is the folder.

    Raises:
        InputError: when nothing lies at the path, or nothing that is seen to be data.
    """
    key = next((key for key in ("data", "data.name") if isinstance(asked.get(key), str)), None)
    given = asked[key].strip("'\"") if key else ""
    place = home_path(given) if given and not given.startswith("<") else Path()
    if not key or not given or given.startswith("<") or not ("/" in given or place.exists()) or "\0" in given:
        return dict(asked)
    if "/" not in given and DATA.find(given) is not None:
        return dict(asked)
    rest = {other: value for other, value in asked.items() if other != key}
    return _seen(given, place) | rest


def _seen(given: str, place: Path) -> dict[str, Any]:
    if place.is_dir():
        train, val = find_npz(place)
        if train and val:
            return {"data.name": "arrays", "data.train": str(train), "data.val": str(val)}
        return {"data.name": "folder", "data.path": given}
    expected = "expected a folder of images, a folder with train.npz and val.npz, a CSV file, or a name from: mcld data"
    if place.suffix.lower() in (".csv", ".tsv") and place.is_file():
        return {"data.name": "csv", "data.path": given}
    if place.suffix.lower() == ".npz":
        raise InputError(f"data={given} is one npz file; expected two: data=arrays data.train={given} data.val=FILE")
    raise InputError(f"data={given} is {'a file' if place.exists() else 'not there'}; {expected}")
