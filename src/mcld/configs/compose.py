"""From the words of a command line, or values from Python or YAML, to settings; and back to ``config.yaml``."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from mcld.configs import schema
from mcld.configs.expand import NAMED
from mcld.configs.values import check_key, check_meaning, convert, leaves, spread, with_values
from mcld.configs.words import Word, read, refer, value_of
from mcld.configs.yaml_text import read_yaml_text
from mcld.errors import InputError
from mcld.methods import method_class
from mcld.options import MISSING, options_dataclass, places
from mcld.registry import DATA, LOGGERS, METHODS, Registry

Command: TypeAlias = Literal["train", "distill"]
Settings: TypeAlias = schema.Train | schema.Distill
NOT_DECISIVE = (
    *("run", "threads", "device", "devices", "log_every", "checkpoints", "logger", "data.workers", "data.cache"),
    *("compile", "channels_last", "optimizer.fused"),
)
"""Settings that do not decide what a run computes, but for rounding."""


MOVABLE = (
    *("data.path", "data.train", "data.val", "data.download", "model.checkpoint", "student.checkpoint"),
    *("model.name", "student.name", "teacher.name", "teacher.checkpoint", "teacher.store"),
    "report",
)
"""Settings that may change while a run is interrupted: what is read from there is compared by content, and a
report changes no weights."""


def compose(command: Command, words: Sequence[str]) -> Settings:
    """The settings that a command line asks for.

    Args:
        command: ``train`` or ``distill``.
        words: ``key=value`` overrides; see ``mcld train --help``.

    Raises:
        InputError: one line naming the word that cannot be right, and the nearest right one.
    """
    asked = read(command, words)
    if any("${" in word.text for word in asked):
        defaults = _defaults(command, {word.key: word for word in asked})
        asked = refer(asked, {key: value for key, _, value in leaves(defaults)})
    settings = settings_from(command, {word.key: word for word in asked})
    groups = [word for word in asked if word.key == "data"]
    if len({word.text for word in groups}) > 1:
        raise InputError(f"{' '.join(word.said for word in groups)}: expected one data set")
    return settings


def settings_from(command: Command, asked: Mapping[str, Any]) -> Settings:
    """The settings that are asked for, the others with their defaults.

    Args:
        command: ``train`` or ``distill``.
        asked: values by dotted key, or words that are still to be read; groups may be mappings.

    Raises:
        InputError: naming the key or the word that cannot be right, and the nearest right one.
    """
    settings = _defaults(command, asked)
    known = {key: kind for key, kind, _ in leaves(settings)}
    values: dict[str, Any] = {}
    for group, whole in asked.items():
        if group in ("data", "method", "logger") and not isinstance(whole, Mapping) and hasattr(settings, group):
            continue  # a name: see _defaults
        if isinstance(whole, Word) and whole.text.startswith("{"):
            whole = value_of(whole, Any)
        for key, value in spread(group, whole, known):
            try:
                parent, _, last = key.rpartition(".")
                if parent.rpartition(".")[2] == "options" and parent in known:  # open: the architecture checks them
                    one = value_of(value, Any) if isinstance(value, Word) else value
                    check_meaning(one)
                    values[parent] = {**values.get(parent, {}), last: one}
                    continue
                check_key(key, known)
                values[key] = (value_of if isinstance(value, Word) else _converted)(value, known[key])
                check_meaning(values[key])
            except InputError as error:
                said = asked[group].said if isinstance(asked[group], Word) else f"{key}={value}"
                raise InputError(str(error) if str(error).startswith("cannot read") else f"{said}: {error}") from error
    settings = with_values(settings, values)
    missing = sorted(key for key, _, value in leaves(settings) if value == MISSING)
    if isinstance(settings, schema.Distill) and "teacher.name" in missing and _is_plain(settings.method.name):
        settings = with_values(settings, {"teacher.name": "none"})
        missing.remove("teacher.name")
    if missing:
        key = missing[0].removesuffix(".name")
        raise InputError(f"{key} is not set; expected {key}=VALUE on the command line")
    return settings


RESOLVED = "resolved"
"""The part of ``config.yaml`` with what is no setting, but follows from them and from the files that they name."""


def settings_to_yaml(settings: schema.RunSettings) -> str:
    """Settings as YAML, for ``config.yaml``."""
    return str(yaml.safe_dump(dataclasses.asdict(settings), sort_keys=False, allow_unicode=True, width=10**6))


def settings_from_yaml(file: Path) -> Settings:
    """Read settings back, with the same checks of names and types.

    Raises:
        InputError: when the file is damaged or not from this version of mcld.
    """
    try:
        loaded = yaml.safe_load(read_yaml_text(file))
        if not isinstance(loaded, dict):
            raise InputError("it holds no settings; expected a config.yaml that mcld wrote")
        loaded.pop(RESOLVED, None)
        for group in ("data", "method") if "teacher" in loaded else ("data",):
            node = loaded.get(group)
            if not isinstance(name := node.get("name") if isinstance(node, dict) else None, str):
                raise InputError(f"{group}.name is {name!r}; expected a name")
        command: Command = "distill" if "teacher" in loaded else "train"
        return settings_from(command, {str(key): value for key, value in loaded.items()})
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{file} cannot be read: {line}{error.problem or error.context}") from error
    except (OSError, ValueError, OverflowError, yaml.YAMLError) as error:  # an InputError is a ValueError
        reason = getattr(error, "strerror", None) or (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{file} cannot be read: {reason.removeprefix(f'{file}: ')}") from error


def read_facts(file: Path) -> dict[str, Any]:
    """What ``config.yaml`` holds besides settings; nothing is known of older runs."""
    found = yaml.safe_load(read_yaml_text(file)).get(RESOLVED)
    return found if isinstance(found, dict) else {}


def flatten(settings: schema.RunSettings) -> dict[str, Any]:
    """What decides what a run computes, by dotted key, as JSON values."""
    found: dict[str, Any] = {}
    for key, _, value in leaves(settings):
        if not any(f"{key}.".startswith(f"{free}.") for free in NOT_DECISIVE):
            found |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) and value else {key: value}
    return found


def changed_settings(then: Mapping[str, Any], settings: Settings) -> list[str]:
    """Which settings are not what they were, in words; those that came into being since count with their defaults.

    Args:
        then: what :func:`flatten` gave.
        settings: now.
    """
    chosen = {"data": settings.data.name}
    if isinstance(settings, schema.Distill):
        chosen["method"] = settings.method.name
    defaults = flatten(_defaults("train" if isinstance(settings, schema.Train) else "distill", chosen))
    then, now = {**{key: value for key, value in defaults.items() if value != {}}, **then}, flatten(settings)
    keys = sorted({*then, *now} - set(MOVABLE))
    return [f"{key} was {then.get(key)} and is {now.get(key)}" for key in keys if then.get(key) != now.get(key)]


def with_absolute_paths(settings: Settings) -> Settings:
    """The same settings, with files and folders that are the same from every working directory."""
    values = {key: value for key, _, value in leaves(settings) if isinstance(value, str) and value[:1] not in ("", "~")}
    paths = [*(f"data.{key}" for key in places(type(settings.data))), *(f"{role}.checkpoint" for role in NAMED)]
    paths += [key for key in ("model.name", "teacher.name", "student.name") if Path(values.get(key, "")).is_dir()]
    paths += ["teacher.store"] if values.get("teacher.store") not in ("auto", "off") else []
    return with_values(settings, {key: str(Path(values[key]).absolute()) for key in paths if key in values})


def method_options(name: str) -> type[Any]:
    """A dataclass of a method's options: ``name``, and its constructor's arguments with their types and defaults."""
    return options_dataclass(method_class(name), name, {"name": (str, name)})


def logger_options(names: Sequence[str]) -> type[Any]:
    """A dataclass of the ``name`` of some loggers, and the options of each that has any under its name."""
    fields: list[tuple[str, Any, Any]] = [("name", str, "+".join(names))]
    for name in names:
        options = options_dataclass(LOGGERS.get(name), name, {})
        if dataclasses.fields(options):
            fields.append((name, options, dataclasses.field(default_factory=options)))
    return dataclasses.make_dataclass("_".join(names), fields, frozen=True)


def _combined_options(names: Sequence[str]) -> type[Any]:
    """The options of several methods at once: each under its name, and ``weights``."""
    weights = dataclasses.make_dataclass("weights", [(name, float, 1.0) for name in names], frozen=True)
    fields: list[tuple[str, Any, Any]] = [("name", str, "+".join(names))]
    for name, options in (("weights", weights), *((name, method_options(name)) for name in names)):
        fields.append((name, options, dataclasses.field(default_factory=options)))
    return dataclasses.make_dataclass("_".join(names), fields, frozen=True)


def _defaults(command: Command, asked: Mapping[str, Any]) -> Settings:
    """The defaults of all settings, those of the data set and the method that are asked for among them."""
    name = _choice("data", asked, DATA)
    if name is None:
        raise InputError(f"data is not set; choose one: data=NAME with NAME among {', '.join(DATA.names())}")
    data = schema.OwnData() if name == schema.OBJECT else DATA.get(name).make_options()
    logger = logger_options((_choice("logger", asked, LOGGERS) or "tensorboard").split("+"))()
    if command == "train":
        return schema.Train(data=data, logger=logger)
    method = (_choice("method", asked, METHODS) or "mcld").split("+")
    if method == [schema.OBJECT]:
        return schema.Distill(data=data, logger=logger, method=schema.OwnMethod())
    options = method_options(method[0]) if len(method) == 1 else _combined_options(method)
    return schema.Distill(data=data, logger=logger, method=options())


def _choice(group: str, asked: Mapping[str, Any], registry: Registry[Any]) -> str | None:
    """The name of the data set, the methods or the loggers, if one is asked for."""
    given = asked.get(group, asked.get(f"{group}.name"))
    if given is None:
        return None
    if isinstance(given, Word) and given.text in ("", "null"):
        raise InputError(f"{given.said}: expected a name")
    name = (
        value_of(given, str) if isinstance(given, Word) else given.get("name") if isinstance(given, Mapping) else given
    )
    if not isinstance(name, str):
        raise InputError(f"{group}.name is {name!r}; expected a name")
    if name == schema.OBJECT:
        return name
    members = [name] if group == "data" else name.split("+")
    for member in members:
        try:
            registry.get(member)
        except InputError as error:
            raise InputError(f"{group}={member}: {error}") from error
    if len(set(members)) < len(members):
        raise InputError(f"{group}={name}: a {group} is named twice")
    return name


def _converted(value: Any, kind: Any) -> Any:
    return convert(kind, value)


def _is_plain(method: str) -> bool:
    """Whether the chosen method needs no teacher."""
    return method != schema.OBJECT and all(not method_class(name).needs for name in method.split("+"))
