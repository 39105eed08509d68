"""From ``published=ID`` and ``recipe=NAME`` to the words that they stand for."""

from collections.abc import Mapping
from typing import Any

from mcld.configs.published import absent, find_row
from mcld.configs.recipes import recipe_words
from mcld.configs.words import read
from mcld.errors import InputError


def expand(command: str, asked: Mapping[str, Any]) -> dict[str, str]:
    """The texts of the settings of a published row or a recipe, where one is asked for.

    Args:
        command: ``train`` or ``distill``.
        asked: what a person said for each setting.

    Raises:
        InputError: for a recipe that is unknown or beside a row, or a row that is unknown, of the other command, or of
            a method that is not here; and when nobody says where the teacher's weights are.
    """
    published, recipe = (str(asked.get(key) or "").strip("'\"") for key in ("published", "recipe"))
    published, recipe = ("" if name == "null" else name for name in (published, recipe))
    for key, name in (("published", published), ("recipe", recipe)):
        if "," in name:
            raise InputError(f"{key}={name}: expected one {key.replace('published', 'row')}; run them one by one")
    if published and recipe:
        raise InputError(f"published={published} is a recipe of its own; expected no recipe={recipe} beside it")
    if recipe:
        role = "model" if command == "train" else "student"
        return {**read(recipe_words(recipe, str(asked.get(f"{role}.name", "")), role)), **_frozen(asked)}
    if not published:
        return _frozen(asked)
    row = find_row(published)
    other = "method.name" in asked  # then the row's own options and weight are of no use
    if row.command != command:
        raise InputError(f"published={row.id} is for mcld {row.command}: mcld {row.command} published={row.id}")
    if not other and (reason := absent(row)):
        raise InputError(f"published={row.id}: {reason}; see what is here: mcld published")
    if row.teacher is not None and not {"teacher.name", "teacher.checkpoint", "teacher.pretrained"} & set(asked):
        raise InputError(
            f"published={row.id} needs the weights of the teacher {row.teacher}: teacher=RUN, such as a run of "
            f"mcld train published={row.data}/{row.pair.split('-')[0]}, or teacher.checkpoint=FILE"
        )
    return read(word for word in row.words if not (other and word.startswith(("method.", "ce_weight="))))


def _frozen(asked: Mapping[str, Any]) -> dict[str, str]:
    """What ``freeze=backbone`` stands for besides: the published weights of a library's network without others."""
    library = str(asked.get("model.name", "")).strip("'\"").partition("/")[0]
    others = {"model.checkpoint", "model.pretrained"} & set(asked)
    frozen = str(asked.get("freeze", "")).strip("'\"") == "backbone"
    return {"model.pretrained": "true"} if frozen and library in ("timm", "torchvision") and not others else {}
