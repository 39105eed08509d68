"""Small results that take long to compute, remembered between runs in the user's cache folder."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mcld.errors import InputError
from mcld.files import atomic_write_text, home_path, read_text


def cache_dir() -> Path:
    """``$MCLD_CACHE``, or ``$XDG_CACHE_HOME/mcld``, or ``~/.cache/mcld``; it need not exist yet."""
    if os.environ.get("MCLD_CACHE"):
        return home_path(os.environ["MCLD_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mcld"


def remembered(kind: str, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The JSON object that ``compute`` returned for this key, from the cache where it is there and whole.

    A cache that cannot be read or written costs time, never the run.
    """
    path = cache_dir() / "checks" / f"{kind}-{key[:32]}.json"
    try:
        stored = json.loads(read_text(path, 2**30))
        value = stored["value"]
        if stored["key"] == key and stored["digest"] == _digest(value) and isinstance(value, dict):
            return value
    except (ValueError, KeyError, TypeError):  # an InputError, too, is a ValueError
        pass
    result = compute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, json.dumps({"key": key, "digest": _digest(result), "value": result}))
    except (OSError, InputError):
        pass
    return result


def listing_key(root: str, files: Sequence[str], *more: object) -> str:
    """A digest of the files' relative paths, sizes and times, and of whatever else the result depends on.

    A file that is not there, such as a link that leads nowhere, counts as that.
    """
    digest = hashlib.sha256(repr(more).encode())
    for file in files:
        try:
            status = os.stat(os.path.join(root, file))  # noqa: PTH116, PTH118 (a million files: a Path each is slow)
        except OSError as error:
            digest.update(f"{file}\0{error.errno}\n".encode("utf-8", "surrogateescape"))
            continue
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
