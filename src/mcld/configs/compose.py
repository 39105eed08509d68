"""From the words of a command line to typed settings, by Hydra; and back from a run's ``config.yaml``."""

import copy
import dataclasses
import functools
import inspect
import io
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from mcld.checks import check_names
from mcld.configs import schema
from mcld.configs.data import DATA_OPTIONS
from mcld.configs.expand import NAMED, expand
from mcld.configs.yaml_text import read_yaml_text
from mcld.errors import InputError, did_you_mean
from mcld.methods import list_methods, method_class

Command: TypeAlias = Literal["train", "distill"]
SCHEMAS: dict[str, type[schema.Run]] = {"train": schema.Train, "distill": schema.Distill}
NOT_DECISIVE = (
    *("run", "threads", "device", "devices", "log_every", "checkpoints", "data.workers", "data.cache"),
    *("compile", "channels_last", "optimizer.fused"),
)
"""Settings that do not decide what a run computes, but for rounding."""
PATHS = ("run", "model", "teacher", "teacher.store", "student", "data.path", "data.train", "data.val")


def compose(command: Command, words: Sequence[str]) -> schema.Train | schema.Distill:
    """The settings that a command line asks for.

    Args:
        command: ``train`` or ``distill``.
        words: ``key=value`` overrides; see ``mcld train --help``.

    Raises:
        InputError: one line naming the word that cannot be right, and the nearest right one.
    """
    return compose_parsed(command, [override.input_line or "" for override in parse(command, words)])


def parse(command: Command, words: Sequence[str], *, sweep: bool = False) -> list[Override]:
    """The words in Hydra's terms, with abbreviations and ``published=ID`` spelt out.

    Args:
        command: ``train`` or ``distill``.
        words: ``key=value`` overrides.
        sweep: whether a value may be several, with commas.

    Raises:
        InputError: for a word that is not ``key=value``, or a group choice or published row that does not exist.
    """
    words = expand(command, words)
    _register(command, words)
    parser = OverridesParser.create()
    overrides = []
    for word in words:
        try:
            override = parser.parse_override(_spell_out(word, sweep=sweep))
        except HydraException as error:
            hint = "; put quotes around a value with special characters: key='\"a value\"'" if "=" in word else ""
            raise InputError(f"cannot read {word!r}; expected key=value{hint}") from error
        if override.is_sweep_override() and not sweep:
            raise InputError(f"{word}: expected one value; for a run with each of several values add -m")
        overrides.append(override)
    return overrides


def compose_parsed(command: Command, words: Sequence[str]) -> schema.Train | schema.Distill:
    """The settings for words that :func:`parse` has spelt out, without sweeps.

    Raises:
        InputError: as :func:`compose`.
    """
    groups = [word for word in words if word.split("=")[0] in ("data", "method")]
    if not any(word.startswith("data=") for word in groups):
        raise InputError(f"data is not set; choose one: data=NAME with NAME among {', '.join(sorted(DATA_OPTIONS))}")
    base = _base(command, tuple(groups))
    known = list(_keys(base))
    if len({word for word in words if word.startswith("data=")}) > 1:
        raise InputError(f"{' '.join(word for word in words if word.startswith('data='))}: expected one data set")
    for word in words:
        key, equals, value = word.lstrip("+~").partition("=")
        open_dict = any(key.startswith(f"{node}.options.") for node in NAMED)
        if word not in groups and not open_dict and key not in known:
            same = [k for k in known if k.split(".")[-1] == key.split(".")[-1]]
            hint = did_you_mean(key, same or known, cutoff=0 if same else 0.4).strip()
            raise InputError(f"{word}: there is no setting {key!r}" + (f"; {hint}" if hint else ""))
        if not equals and not word.startswith("~"):
            raise InputError(f"cannot read {word!r}; expected key=value, such as {key}=VALUE")
        if (
            equals
            and word not in groups
            and not open_dict
            and isinstance(OmegaConf.select(base, key), DictConfig)
            and value[:1] != "{"
        ):
            raise InputError(f"{word}: {key!r} holds several settings; expected {key}.SETTING=VALUE")
    try:
        config = _hydra_compose(command, words)
    except InputError:
        for word in words:  # one after another, to say which it is
            try:
                _hydra_compose(command, [*groups, word] if word not in groups else groups)
            except InputError as error:
                raise InputError(f"{word}: {error}") from error
        raise
    return to_settings(config)


def to_settings(config: DictConfig) -> schema.Train | schema.Distill:
    """What Hydra has composed, as settings.

    Raises:
        InputError: naming what is not set.
    """
    try:
        OmegaConf.to_container(config, resolve=True)  # not in place: what it gives is literal, and resolved only once
    except OmegaConfBaseException as error:
        raise InputError(f"a value refers to another with ${{…}}: {str(error).splitlines()[0]}") from error
    missing = sorted(OmegaConf.missing_keys(config))
    if "method" in config and method_is_plain(config):
        missing = [key for key in missing if not key.startswith("teacher.")]
        if OmegaConf.is_missing(config.teacher, "name"):
            config.teacher.name = "none"
    if missing:
        key = missing[0].removesuffix(".name")
        raise InputError(f"{key} is not set; expected {key}=VALUE on the command line")
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, schema.Train | schema.Distill)
    return settings


@functools.cache
def _base(command: Command, groups: tuple[str, ...]) -> DictConfig:
    """What there is to set; only to be read."""
    return _hydra_compose(command, groups)


def method_is_plain(config: DictConfig) -> bool:
    """Whether the chosen method needs no teacher."""
    return all(not method_class(name).needs for name in str(config.method.name).split("+"))


def settings_to_yaml(settings: schema.Run) -> str:
    """Settings as YAML, for ``config.yaml``."""
    return OmegaConf.to_yaml(OmegaConf.structured(settings))


def settings_from_yaml(file: Path) -> schema.Train | schema.Distill:
    """Read settings back, with the same checks of names and types.

    Raises:
        InputError: when the file is damaged or not from this version of mcld.
    """
    try:
        loaded = OmegaConf.load(io.StringIO(read_yaml_text(file)))
        if not isinstance(loaded, DictConfig):
            raise InputError(f"{file} cannot be read: it holds no settings; expected a config.yaml that mcld wrote")
        loaded = OmegaConf.create(_literal(OmegaConf.to_container(loaded)))
        command: Command = "distill" if "teacher" in loaded else "train"
        groups = [_stored_choice(loaded, group, file) for group in ("data", "method")[: 1 + (command == "distill")]]
        _register(command, groups)
        base = _hydra_compose(command, groups)
        unknown = sorted(str(key) for key in loaded if key not in base)
        if unknown:
            raise InputError(f"{file} cannot be read: there is no setting {unknown[0]!r}")
        OmegaConf.set_struct(base, False)  # the classes still refuse what they do not have; only `options` are open
        settings = OmegaConf.to_object(OmegaConf.merge(base, loaded))
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except InputError:
        raise
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{file} cannot be read: {line}{error.problem or error.context}") from error
    except (OSError, ValueError, AssertionError, YAMLError, OmegaConfBaseException, HydraException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = getattr(error, "strerror", None) or reason
        raise InputError(f"{file} cannot be read: {reason}") from error
    assert isinstance(settings, schema.Train | schema.Distill)
    return settings


def flatten(settings: schema.Run) -> dict[str, Any]:
    """What decides what a run computes, by dotted key, as JSON values."""

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            full = f"{prefix}{key}"
            if full in NOT_DECISIVE:
                continue
            if isinstance(value, dict) and value:
                yield from walk(value, f"{full}.")
            else:
                yield full, value

    container = OmegaConf.to_container(OmegaConf.structured(settings))
    assert isinstance(container, dict)
    return dict(walk({str(key): value for key, value in container.items()}, ""))


def with_absolute_paths(settings: schema.Train | schema.Distill) -> schema.Train | schema.Distill:
    """A copy whose files and folders are the same from every working directory."""
    found = copy.deepcopy(settings)

    def settle(node: Any, *keys: str) -> None:
        for key in keys:
            given = getattr(node, key, None)
            if given and not given.startswith("~"):
                setattr(node, key, str(Path(given).absolute()))

    settle(found.data, *(("train", "val") if found.data.name == "arrays" else ("path",)))
    for role in ("model", "teacher", "student"):
        network = getattr(found, role, None)
        if network is not None:
            settle(network, "checkpoint", *(["name"] if Path(network.name).is_dir() else []))
    if isinstance(found, schema.Distill) and found.teacher.store not in ("auto", "off"):
        settle(found.teacher, "store")
    return found


def _stored_choice(loaded: DictConfig, group: str, file: Path) -> str:
    """The choice of a group in a stored file, as a word."""
    node = loaded.get(group)
    name = node.get("name") if isinstance(node, DictConfig) else None
    if not isinstance(name, str):
        raise InputError(f"{file} cannot be read: {group}.name is {name!r}; expected a name")
    return f"{group}={name}"


def _literal(value: Any) -> Any:
    """Stored values in OmegaConf's grammar, in which ``${…}`` is a reference unless it is escaped."""
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def method_options(name: str) -> type[Any]:
    """A dataclass of a method's options: ``name``, and its constructor's arguments with their types and defaults."""
    cls = method_class(name)
    hints = typing.get_type_hints(cls.__init__)
    made: dict[str, Any] = {f.name: f for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
    fields: list[tuple[str, Any, Any]] = [("name", str, name)]
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        default = parameter.default
        if parameter.name in made and made[parameter.name].default_factory is not dataclasses.MISSING:
            default = made[parameter.name].default_factory()
        if dataclasses.is_dataclass(default):  # `Category | Mapping`, for people; settings always hold the dataclass
            kind: Any = type(default)
        else:
            kind = hints[parameter.name]
        if isinstance(default, list | dict) or dataclasses.is_dataclass(default):
            value = dataclasses.field(default_factory=functools.partial(copy.deepcopy, default))
        else:
            value = dataclasses.field(default=default)
        fields.append((parameter.name, kind, value))
    return dataclasses.make_dataclass(f"{name}_options", fields)


def _combined_options(names: Sequence[str]) -> type[Any]:
    """The options of several methods at once: each under its name, and ``weights``."""
    weights = dataclasses.make_dataclass("weights", [(name, float, 1.0) for name in names])
    fields: list[tuple[str, Any, Any]] = [
        ("name", str, "+".join(names)),
        ("weights", weights, dataclasses.field(default_factory=weights)),
    ]
    for name in names:
        options = method_options(name)
        fields.append((name, options, dataclasses.field(default_factory=options)))
    return dataclasses.make_dataclass("_".join(names), fields)


def _register(command: Command, words: Sequence[str]) -> None:
    """Tell Hydra what there is, the combinations of methods in these words included."""
    store = ConfigStore.instance()
    groups = [{"data": "???"}, {"method": "mcld"}][: 1 if command == "train" else 2]
    store.store(name=f"{command}_schema", node=SCHEMAS[command])
    store.store(name=command, node={"defaults": [f"{command}_schema", *groups, "_self_"]})
    for name, options in DATA_OPTIONS.items():
        store.store(group="data", name=name, node=options)
    if command == "train":
        return
    for name in list_methods():
        store.store(group="method", name=name, node=method_options(name))
    for word in words:
        if word.startswith("method="):
            for names in re.findall(r"[\w+]*\+[\w+]*", _spell_out(word, sweep=True)):
                members = names.split("+")
                for member in members:
                    _check_choice("method", member, list_methods())
                if len(set(members)) < len(members):
                    raise InputError(f"{word}: a method is named twice")
                store.store(group="method", name=names, node=_combined_options(members))


def _spell_out(word: str, *, sweep: bool = False) -> str:
    """One word in Hydra's grammar: ``model=X`` names the model, ``method=[a,b]`` combines, paths need no quotes."""
    match = re.match(r"(\+{0,2})([\w.]+)=(.*)", word, re.DOTALL)
    if not match:
        return word
    plus, key, value = match.groups()
    if (key in PATHS or key.endswith(".checkpoint")) and not (key in NAMED and value.startswith("{")):
        if sweep and re.match(r"(choice|shuffle|sort|glob)\(", value):
            pass
        elif sweep and value[:1] not in "'\"":
            value = ",".join(map(quote_path, value.split(",")))
        else:
            value = quote_path(value)
    if key == "method":
        value = re.sub(r"\[([^\[\]]*)\]", lambda m: "+".join(part.strip() for part in m[1].split(",")), value)
    if key in NAMED and not value.startswith("{"):
        key = f"{key}.name"
    if any(key.startswith(f"{node}.options.") for node in NAMED):
        plus = "++"
    return f"{plus}{key}={value}"


def quote_path(value: str) -> str:
    """A path as a value in Hydra's grammar, literally; only what is empty, ``null`` or quoted already stays."""
    if value in ("", "null") or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return value
    if value.startswith("~"):
        value = str(Path(value).expanduser())
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"


def _hydra_compose(command: Command, words: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize(version_base="1.3", config_path=None):
            return hydra.compose(config_name=command, overrides=list(words))
    except (HydraException, OmegaConfBaseException) as error:
        for word in words:
            for group, choices in (("data", sorted(DATA_OPTIONS)), ("method", list_methods())):
                if word.startswith(f"{group}="):
                    for choice in word.partition("=")[2].split("+"):
                        _check_choice(group, choice, choices)
        cause = error.__cause__ or error
        text = str(cause).splitlines()[0]
        found = re.match(r"Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+)", text)
        if found:
            kinds = {"Integer": "an integer", "Float": "a number", "bool": "true or false"}
            text = f"expected {kinds.get(found[2], found[2])}, not {found[1]!r}"
        raise InputError(text) from error


def _check_choice(group: str, choice: str, choices: Sequence[str]) -> None:
    try:
        check_names(group, [choice], choices)
    except InputError as error:
        raise InputError(f"{group}={choice}: {error}") from error


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        yield f"{prefix}{key}"
        child = config._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from _keys(child, f"{prefix}{key}.")
