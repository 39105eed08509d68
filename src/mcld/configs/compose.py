"""From the words of a command line, or values from Python or YAML, to settings; and back to ``config.yaml``."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from mcld.configs import schema
from mcld.configs.options import combined_options, logger_options, method_options
from mcld.configs.values import check_meaning, convert, kind_of, leaves, with_values
from mcld.configs.words import Word, read, value_of
from mcld.configs.yaml_text import load_yaml
from mcld.data.options import DataOptions, OwnData
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
    asked = read(command, words)
    known: dict[str, Any] = {word.key: word.text for word in asked}
    if any("${" in word.text for word in asked):
        known = {key: value for key, _, value in leaves(default_settings(command, {w.key: w for w in asked}))} | known

    def filled(word: Word) -> Word:
        def other(match: re.Match[str]) -> str:
            if match[1]:
                return match[0][1:]
            if "${" in (text := str(known.get(match[2], "${"))):
                raise InputError(f"{word.said}: there is no setting {match[2]!r} that ${{…}} could stand for")
            return text

        return word._replace(text=re.sub(r"(\\?)\$\{([^}]*)\}", other, word.text))

    settings = settings_from(command, {word.key: filled(word) for word in asked})
    groups = {word.text: word.said for word in asked if word.key == "data"}
    if len(groups) > 1:
        raise InputError(f"{' '.join(groups.values())}: expected one data set")
    return settings


def settings_from(command: Command, asked: Mapping[str, Any]) -> Settings:
    """The settings that are asked for, the others with their defaults.

    Args:
        command: ``train`` or ``distill``.
        asked: values by dotted key, or words that are still to be read; groups may be mappings.

    Raises:
        InputError: naming the key or the word that cannot be right, and the nearest right one.
    """
    settings = default_settings(command, asked)
    known = {key: kind for key, kind, _ in leaves(settings)}

    def put(key: str, value: Any, said: str | None = None) -> None:
        nonlocal settings
        if isinstance(value, Word) and value.text.startswith("{"):
            value, said = value_of(value, Any), value.said
        if isinstance(value, Mapping) and key not in known and any(other.startswith(f"{key}.") for other in known):
            for inner, below in value.items():
                put(f"{key}.{inner}", below, said)
            return
        try:
            kind = kind_of(key, known)
            right = value_of(value, kind) if isinstance(value, Word) else convert(kind, value)
            check_meaning(right)
        except InputError as error:
            said = value.said if isinstance(value, Word) else said or f"{key}={value}"
            raise InputError(str(error) if str(error).startswith("cannot read") else f"{said}: {error}") from error
        settings = with_values(settings, {key: right})

    for key, value in asked.items():
        if key not in ("data", "method", "logger") or isinstance(value, Mapping) or not hasattr(settings, key):
            put(key, value)  # the others are names: they have chosen the defaults
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
    given = asked.get(group, asked.get(f"{group}.name", default))
    name = given.get("name") if isinstance(given, Mapping) else given
    if isinstance(given, Word):
        try:
            name = value_of(given, str | None) or None
        except InputError as error:
            raise InputError(f"{given.said}: {error}") from error
    if not isinstance(name, str):
        said = f"{given.said}:" if isinstance(given, Word) else f"{group}.name is {name!r};"
        raise InputError(f"{said} expected a name")
    members = name.split("+") if group != "data" else [name]
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


def settings_from_yaml(file: Path) -> Settings:
    """Read settings back, with the same checks of names and types.

    Raises:
        InputError: when the file is damaged or not from this version of mcld.
    """
    loaded = load_yaml(file)
    try:
        if not isinstance(loaded, dict):
            raise InputError("it holds no settings; expected a config.yaml that mcld wrote")
        command: Command = "distill" if "teacher" in loaded else "train"
        for group in ("data", "method") if command == "distill" else ("data",):
            loaded[group] = node if isinstance(node := loaded.get(group), dict) else {}  # its name is asked for
        return settings_from(command, {str(key): value for key, value in loaded.items() if key != RESOLVED})
    except (ValueError, OverflowError) as error:  # an InputError is a ValueError
        raise InputError(f"{file} cannot be read: {error}") from error


def data_from_yaml(file: Path) -> DataOptions:
    """The settings of the data alone: a method or a logger of the run need not be known here.

    Raises:
        InputError: as :func:`settings_from_yaml`.
    """
    found: DataOptions = _part(file, "data").data
    return found


def epochs_from_yaml(file: Path) -> int:
    """The number of epochs alone, likewise."""
    return _part(file, "schedule").schedule.epochs


def _part(file: Path, group: str) -> Settings:
    """Settings of which one group alone is as in the file."""
    loaded = load_yaml(file)
    try:
        if not isinstance(loaded, dict):
            raise InputError("it holds no settings; expected a config.yaml that mcld wrote")
        node = loaded.get(group)
        others = {"data": {"name": "digits"}, "model": {"name": "not read"}}  # what must be set
        return settings_from("train", {**others, group: node if isinstance(node, dict) else {}})
    except (ValueError, OverflowError) as error:  # an InputError is a ValueError
        raise InputError(f"{file} cannot be read: {error}") from error


def read_facts(file: Path) -> dict[str, Any]:
    """What ``config.yaml`` holds besides settings; nothing is known of older runs."""
    found = load_yaml(file).get(RESOLVED)
    return found if isinstance(found, dict) else {}
