"""Which settings decide what a run computes, and whether they are what they were."""

from collections.abc import Mapping
from typing import Any

from mcld.configs import schema
from mcld.configs.compose import Settings, default_settings
from mcld.configs.values import leaves

NOT_DECISIVE = (
    *("run", "threads", "device", "devices", "log_every", "checkpoints", "logger", "data.workers", "data.cache"),
    *("compile", "step", "channels_last", "optimizer.fused"),
)
"""Settings that do not decide what a run computes, but for rounding."""


MOVABLE = (
    *("data.path", "data.train", "data.val", "data.split", "data.nested", "data.download"),
    *("model.checkpoint", "student.checkpoint"),
    *("model.name", "student.name", "teacher.name", "teacher.checkpoint", "teacher.store"),
    "report",
)
"""Settings that may change while a run is interrupted: what is read from there is compared by content, and a
report changes no weights."""


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
    defaults = flatten(default_settings("train" if isinstance(settings, schema.Train) else "distill", chosen))
    then, now = {**{key: value for key, value in defaults.items() if value != {}}, **then}, flatten(settings)
    keys = sorted({*then, *now} - set(MOVABLE))
    return [f"{key} was {then.get(key)} and is {now.get(key)}" for key in keys if then.get(key) != now.get(key)]
