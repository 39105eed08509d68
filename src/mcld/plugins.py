"""Files of code that a person names on the command line, ``--plugin my_methods.py``, and what a run remembers of them.

Settings never name code, and a run directory never brings any: it holds the name and the digest of what it was made
with, and asks for that. What installed packages register is remembered as well.
"""

import hashlib
import sys
import traceback
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcld.errors import InputError
from mcld.files import read_file
from mcld.registry import REGISTRIES


@dataclass(frozen=True)
class Plugin:
    """A file that was imported.

    Attributes:
        file: absolute.
        digest: the SHA-256 of its content, in hexadecimal.
        names: what it registered, such as ``"method js"``.
    """

    file: Path
    digest: str
    names: tuple[str, ...]


_LOADED: dict[Path, Plugin] = {}


def take_plugins(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """The files of ``--plugin FILE`` and ``--plugin=FILE``, and all other words.

    Raises:
        InputError: when there is no file after the last ``--plugin``.
    """
    files: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--plugin":
            file = next(rest, None)
            if file is None:
                raise InputError("--plugin: expected a file of Python code after it: --plugin my_methods.py")
            files.append(file)
        elif word.startswith("--plugin="):
            files.append(word.partition("=")[2])
        else:
            others.append(word)
    return files, others


def load_plugin(file: str) -> Plugin:
    """Import a file of Python code, so that what it registers has a name; once, however often it is named.

    Raises:
        InputError: when it cannot be read or imported, with the line where that failed.
    """
    path = Path(file).expanduser().absolute()
    if path.suffix != ".py":
        raise InputError(f"--plugin {file}: expected a file of Python code, NAME.py")
    try:
        content = read_file(path)
    except FileNotFoundError as error:
        raise InputError(f"--plugin {file}: no such file") from error
    except OSError as error:
        raise InputError(f"--plugin {file} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    known = _LOADED.get(path)
    if known is not None:
        if known.digest != digest:
            raise InputError(f"--plugin {file} has changed since this process imported it; start a new one")
        return known
    before = _names()
    module = types.ModuleType(f"mcld_plugin_{digest[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where the decorators and pickle look for it
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)  # these bytes and no others have this digest
    except (Exception, SystemExit) as error:  # whatever a person's code does when it is imported
        del sys.modules[module.__name__]
        _forget(before)
        raise InputError(f"--plugin {file} cannot be imported: {_reason(error, path)}") from error
    plugin = Plugin(path, digest, tuple(sorted(_names() - before)))
    _LOADED[path] = plugin
    return plugin


def loaded_plugins() -> list[Plugin]:
    """All that this process has imported, in their order."""
    return list(_LOADED.values())


def plugin_words() -> list[str]:
    """The words that give another process the same plugins."""
    return [word for plugin in _LOADED.values() for word in ("--plugin", str(plugin.file))]


def describe_plugins(uses: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
    """What a run remembers, as JSON: every plugin file, and the packages that it has names from.

    Args:
        uses: the names that it uses, by kind.
    """
    entries: list[dict[str, Any]] = [
        {"file": str(plugin.file), "sha256": plugin.digest, "names": list(plugin.names)} for plugin in _LOADED.values()
    ]
    packages: dict[tuple[str, str], list[str]] = {}
    for kind, names in uses.items():
        for name in names:
            package = REGISTRIES[kind].package(name)
            if package is not None:
                packages.setdefault(package, []).append(f"{kind} {name}")
    return [*entries, *({"package": p, "version": v, "names": n} for (p, v), n in packages.items())]


def check_plugins(remembered: object, run: str, *, kinds: Iterable[str] | None = None) -> list[str]:
    """Check that what a run was made with is here.

    Args:
        remembered: of :func:`describe_plugins`, as read from the run; anything else is an earlier run's, without any.
        run: the run directory, for messages.
        kinds: only what registered one of these kinds of names is needed; None: everything.

    Returns:
        A line for each that is not the same any more.

    Raises:
        InputError: for one that is not here, saying how to give it.
    """
    notes = []
    for entry in remembered if isinstance(remembered, list) else []:
        if not isinstance(entry, dict):
            continue
        names = [str(name) for name in entry.get("names", ())]
        if kinds is not None and not any(name.partition(" ")[0] in kinds for name in names):
            continue
        note = _check_package(entry, names, run) if "package" in entry else _check_file(entry, names, run)
        notes += [note] if note else []
    return notes


def _check_file(entry: Mapping[str, Any], names: list[str], run: str) -> str:
    file, digest = Path(str(entry.get("file"))), entry.get("sha256")
    if any(plugin.digest == digest for plugin in _LOADED.values()):
        return ""
    holds = f" ({', '.join(names)})" if names else ""
    for plugin in _LOADED.values():
        if plugin.file.name == file.name:
            return (
                f"warning: {plugin.file} is not the {file.name}{holds} that {run} was made with: its digest was "
                f"{str(digest)[:12]} and is {plugin.digest[:12]}"
            )
    raise InputError(f"{run} was made with the plugin {file}{holds} and needs it; give it: --plugin {file}")


def _check_package(entry: Mapping[str, Any], names: list[str], run: str) -> str:
    for name in names:
        kind, _, own = name.partition(" ")
        registry = REGISTRIES.get(kind)
        if registry is None:
            continue
        package = registry.package(own)
        if package is None and registry.find(own) is None:
            raise InputError(
                f"{run} was made with the {name} of the package {entry['package']} {entry.get('version')}, which is "
                f"not installed here; install it"
            )
        if package != (entry["package"], entry.get("version")):
            now = " ".join(package) if package else registry.origin(own)
            return f"warning: the {name} was of {entry['package']} {entry.get('version')} in {run} and is of {now}"
    return ""


def _names() -> set[str]:
    return {f"{kind} {name}" for kind, registry in REGISTRIES.items() for name in registry.registered()}


def _forget(before: set[str]) -> None:
    """Take back what a file had registered before it failed."""
    for name in _names() - before:
        kind, _, own = name.partition(" ")
        REGISTRIES[kind].remove(own)


def _reason(error: BaseException, path: Path) -> str:
    """An error in one line, with the line of the file where it was raised."""
    text = " ".join(str(error).split()) or "no reason given"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    where = f"line {lines[-1]}: " if lines else ""
    return where + (text if isinstance(error, InputError) else f"{type(error).__name__}: {text}")
