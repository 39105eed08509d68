"""From the words of a command line, or values from Python or YAML, to settings; and back to ``config.yaml``."""

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from mcld.configs import schema
from mcld.configs.expand import expand
from mcld.configs.options import combined_options, logger_options, method_options
from mcld.configs.places import with_data_seen
from mcld.configs.values import check_meaning, convert, kind_of, leaves, with_values
from mcld.configs.words import NAMED, full, read, value_of, word_of
from mcld.configs.yaml_text import load_yaml
from mcld.data.holdout import SPLIT_FILE
from mcld.data.options import OwnData
from mcld.errors import InputError
from mcld.methods import method_class
from mcld.options import MISSING, OBJECT
from mcld.registry import DATA, LOGGERS, METHODS, Registry

Command: TypeAlias = Literal["train", "distill"]
Settings: TypeAlias = schema.Train | schema.Distill
RESOLVED = "resolved"
"""The part of ``config.yaml`` with what is no setting, but follows from them and from the files that they name."""


def compose(command: Command, words: Sequence[str]) -> Settings:
    r"""The settings that a command line asks for.

    ``${seed}`` stands for what another setting is, ``\${seed}`` for itself.

    Args:
        command: ``train`` or ``distill``.
        words: ``key=value`` overrides; see ``mcld train --help``.

    Raises:
        InputError: one line naming the word that cannot be right, and the nearest right one.
    """
    texts = {key: str(value) for key, value in with_data_seen(read(words)).items()}
    return settings_from(command, read_values(command, expand(command, texts) | texts))


def read_values(command: Command, texts: Mapping[str, str], beside: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What texts say, each for the type that its setting has.

    Args:
        command: ``train`` or ``distill``.
        texts: by dotted key.
        beside: values that are asked for, too.

    Raises:
        InputError: for brackets or quotes that do not match, and a reference to what is no setting.
    """
    found = list(leaves(default_settings(command, {**texts, **(beside or {})})))
    kinds, known = {key: kind for key, kind, _ in found}, {key: str(value) for key, _, value in found} | {**texts}

    def other(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        if "${" in (text := known.get(match[2], "${")):
            raise InputError(f"{match[0]}: there is no setting {match[2]!r} that ${{…}} could stand for")
        return text

    texts = {key: re.sub(r"(\\?)\$\{([^}]*)\}", other, text) for key, text in texts.items()}
    open_kinds = {key: Any for key in texts if typing.get_origin(kinds.get(key.rpartition(".")[0])) is dict}
    return {key: value_of(key, text, ({**kinds, **open_kinds}).get(key, str)) for key, text in texts.items()}


def settings_from(command: Command, asked: Mapping[str, Any]) -> Settings:
    """The settings that are asked for, the others with their defaults.

    Args:
        command: ``train`` or ``distill``.
        asked: values by dotted key; groups may be mappings.

    Raises:
        InputError: naming the key that cannot be right, and the nearest right one.
    """
    asked = with_data_seen(asked)
    settings = default_settings(command, asked)
    known = {key: kind for key, kind, _ in leaves(settings)}

    def put(key: str, value: Any) -> None:
        nonlocal settings
        if isinstance(value, Mapping) and key not in known and any(other.startswith(f"{key}.") for other in known):
            for inner, below in value.items():
                put(f"{key}.{inner}", below)
            return
        key = full(key) if full(key) in known else key
        try:
            right = convert(kind_of(key, known), value)
            check_meaning(right)
        except InputError as error:
            several = isinstance(value, str) and "," in value
            hint = f"; a run with each of several values: mcld {command} -m" if several else ""
            raise InputError(f"{word_of(key, value)}: {error}{hint}") from error
        settings = with_values(settings, {key: right})

    for key, value in asked.items():
        put(key, value)
    missing = sorted(key for key, _, value in leaves(settings) if value == MISSING)
    if isinstance(settings, schema.Distill) and "teacher.name" in missing and _is_plain(settings.method.name):
        settings = with_values(settings, {"teacher.name": "none"})
        missing.remove("teacher.name")
    if missing:
        key = missing[0].removesuffix(".name")
        raise InputError(f"{key} is not set; expected {key}=VALUE on the command line")
    return settings


def default_settings(command: Command, asked: Mapping[str, Any]) -> Settings:
    """The defaults of all settings, those of the data set, the method and the loggers that are asked for among them."""
    if not {"data", "data.name"} & set(asked):
        raise InputError(f"data is not set; choose one: data=NAME with NAME among {', '.join(DATA.names())}")
    (name,) = _names("data", asked, DATA)
    data = OwnData() if name == OBJECT else DATA.get(name).make_options()
    logger = logger_options(_names("logger", asked, LOGGERS, "tensorboard"))()
    if command == "train":
        return schema.Train(data=data, logger=logger)
    names = _names("method", asked, METHODS, "mcld")
    options = combined_options(names) if len(names) > 1 else method_options(names[0])
    return schema.Distill(data=data, logger=logger, method=options())


def _names(group: str, asked: Mapping[str, Any], registry: Registry[Any], default: str | None = None) -> list[str]:
    """The names of the data set, the methods or the loggers that are asked for."""
    name = asked.get(group, asked.get(f"{group}.name", default))
    name = name.get("name") if isinstance(name, Mapping) else name
    if not isinstance(name, str) or name in ("", "null"):
        raise InputError(f"{group}={'null' if name is None else name}: expected a name")
    members = [name] if group == "data" or name == OBJECT else name.split("+")
    for member in members if name != OBJECT else ():
        try:
            registry.get(member)
        except InputError as error:
            raise InputError(f"{group}={member}: {error}") from error
    if len(set(members)) < len(members):
        raise InputError(f"{group}={name}: a {group} is named twice")
    return members


def _is_plain(method: str) -> bool:
    """Whether the chosen method needs no teacher."""
    return method != OBJECT and all(not method_class(name).needs for name in method.split("+"))


def settings_to_yaml(settings: schema.RunSettings) -> str:
    """Settings as YAML, for ``config.yaml``."""
    return str(yaml.safe_dump(dataclasses.asdict(settings), sort_keys=False, allow_unicode=True, width=10**6))


def settings_from_yaml(file: Path, only: str | None = None) -> Settings:
    """Read settings back, with the same checks of names and types.

    Args:
        file: that :func:`settings_to_yaml` made.
        only: read this group of settings alone: a method or a logger of the run need not be known here.

    Raises:
        InputError: when the file is damaged or not from this version of mcld.
    """
    loaded = load_yaml(file)
    try:
        if not isinstance(loaded, dict):
            raise InputError("it holds no settings; expected a config.yaml that mcld wrote")
        command: Command = "distill" if "teacher" in loaded and not only else "train"
        if only:
            loaded = {"data": {"name": "digits"}, "model": {"name": "not read"}, only: loaded.get(only)}
        needed = ("data", "method") if command == "distill" else ("data",)
        for group in NAMED:
            if not isinstance(node := loaded.get(group, None if group in needed else {}), dict):
                raise InputError(f"{group} is {node!r}; expected a name and options")
        asked = {str(key): value for key, value in loaded.items() if key != RESOLVED}
        return settings_from(command, asked | {"data": _of_run(asked["data"], file)})
    except (ValueError, OverflowError) as error:  # an InputError is a ValueError
        raise InputError(f"{file} cannot be read: {error}") from error


def _of_run(data: dict[str, Any], file: Path) -> dict[str, Any]:
    """The data settings of a run as they hold for it now: with the split that it keeps, and what older ones assumed."""
    if data.get("name") == "folder":
        data = {"nested": "upper", **data}  # earlier versions did not ask
    split = file.with_name(SPLIT_FILE)
    return data | {"split": str(split)} if "split" in data and split.is_file() else data


def read_facts(file: Path) -> dict[str, Any]:
    """What ``config.yaml`` holds besides settings; nothing is known of older runs."""
    found = load_yaml(file).get(RESOLVED)
    return found if isinstance(found, dict) else {}
