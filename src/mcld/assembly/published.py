"""A run beside the published row whose recipe it took."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from mcld.configs.compose import compose
from mcld.configs.published import Number, Row, published_rows
from mcld.configs.schema import Distill, Train
from mcld.errors import InputError
from mcld.models import find_model

# What has no part in the recipe: places, the machine, the seed, and the teacher's weights (its architecture counts).
_FREE = (
    "run",
    "seed",
    "device",
    "devices",
    "threads",
    "log_every",
    "channels_last",
    "step",
    "compile",
    "optimizer.fused",
    "published",
)
_FREE_GROUPS = ("checkpoints.", "teacher.")
_FREE_DATA = ("data.path", "data.download", "data.workers", "data.check", "data.cache")


def published_block(settings: Train | Distill, teacher: str | None) -> dict[str, Any] | None:
    """What ``summary.json`` says of the row; None for a run without one. Shares are in [0, 1].

    Args:
        settings: of the run.
        teacher: the architecture of the teacher that was used.
    """
    row = next((row for row in published_rows() if row.id == settings.published), None)
    if row is None:
        return None
    first = row.numbers[0] if row.numbers else None
    alone = next((r for r in published_rows() if row.teacher and r.id == f"{row.data}/{row.pair.split('-')[0]}"), None)
    return {
        "id": row.id,
        "method": row.title,
        "views": row.views,
        **(_number(first) if first else {"top1": None, "source": None, "protocol": None, "comparable": None}),
        "also_reported": [_number(number) for number in row.numbers[1:]],
        "teacher_top1": _share(alone.numbers[0].top1) if alone and alone.numbers else None,
        "note": row.note,
        "differences": list(differences(settings, row, teacher)),
    }


def differences(settings: Train | Distill, row: Row, teacher: str | None) -> Iterator[dict[str, Any]]:
    """The settings of a run that are not the row's, each with both values; places, seed and machine do not count."""
    words = [f"published={row.id}", *(["teacher.checkpoint=FILE"] if row.teacher else [])]
    theirs, ours = _flat(compose(row.command, words)), _flat(settings)
    for key, value in theirs.items():
        if key == "ce_weight" and value is None:  # the row leaves it to the method; the run has written down which
            continue
        if key in _FREE or key in _FREE_DATA or key.startswith(_FREE_GROUPS) or key not in ours:
            continue
        if _canonical(key, ours[key]) != _canonical(key, value):
            yield {"setting": key, "published": value, "here": ours[key]}
    if row.teacher and _model(teacher or "none") != _model(row.teacher):
        yield {"setting": "teacher", "published": row.teacher, "here": teacher}


def published_lines(summary: Mapping[str, Any]) -> list[str]:
    """What the terminal says of the row at the end of a run."""
    block = summary["published"]
    if block is None:
        return []
    lines = []
    views = "1 view" if block["views"] == 1 else f"{block['views']} views"
    if block["top1"] is None:
        lines.append(f"published {block['id']}: no number is known; {block['note']}")
    else:
        ours = f"last {summary['last']['top1']:.2%}, best {summary['best']['top1']:.2%}"
        which = block["comparable"]
        side = "which epoch is not stated" if which is None else f"to be set beside our {which}"
        lines.append(
            f"published {block['id']}: top-1 {block['top1']:.2%} ({block['source']}: {block['protocol']}, {views}), "
            f"{side}; ours, one run: {ours}"
        )
        if block["note"]:
            lines.append(f"of that row: {block['note']}")
    lines += [
        f"also reported: top-1 {other['top1']:.2%} ({other['source']}: {other['protocol']})"
        for other in block["also_reported"]
    ]
    if block["teacher_top1"] is not None and summary["teacher"]:
        lines.append(
            f"the published teacher has top-1 {block['teacher_top1']:.2%}, this one {summary['teacher']['top1']:.2%}"
        )
    if block["differences"]:
        changed = ", ".join(f"{d['setting']} {d['here']} instead of {d['published']}" for d in block["differences"])
        lines.append(f"the settings are not the published ones, so the numbers do not compare: {changed}")
    return lines


def _number(number: Number) -> dict[str, Any]:
    return {
        "top1": _share(number.top1),
        "source": number.source,
        "protocol": number.protocol,
        "comparable": None if number.epoch == "unknown" else number.epoch,
    }


def _share(percent: float) -> float:
    return round(percent / 100, 6)


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``{"schedule.lr": 0.05, ...}``."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            flat |= _flat(value, f"{prefix}{field.name}.")
        else:
            flat[f"{prefix}{field.name}"] = value
    return flat


def _canonical(key: str, value: Any) -> Any:
    return _model(value) if key in ("model.name", "student.name") else value


def _model(name: str) -> str:
    try:
        return find_model(name).name
    except InputError:
        return name
