"""From ``published=ID`` and ``recipe=NAME`` to the settings that they stand for."""

import re
from collections.abc import Sequence

from mcld.configs.published import absent, find_row
from mcld.configs.recipes import recipe_words
from mcld.errors import InputError

NAMED = ("model", "teacher", "student", "schedule", "optimizer")  # KEY=X is short for KEY.name=X


def expand(command: str, words: Sequence[str]) -> list[str]:
    """Put the settings of a published row or a recipe before the words of a person, which win.

    Args:
        command: ``train`` or ``distill``.
        words: ``key=value`` overrides; without ``published=`` and ``recipe=`` they are returned as they are.

    Raises:
        InputError: for a recipe that is unknown or beside a row, or a row that is unknown, of the other command, or of
            a method that is not here; and when nobody says where the teacher's weights are.
    """
    said: dict[str, list[str]] = {}
    for word in words:
        said.setdefault(_key(word), []).append(word.partition("=")[2].strip("'\""))
    for key, what in (("published", "row"), ("recipe", "recipe")):
        if len(named := said.get(key, [])) > 1 or (named and "," in named[0]):
            raise InputError(f"{key}={','.join(named)}: expected one {what}; run them one after another")
    published, recipe = (None if said.get(key) in (None, ["null"]) else said[key][0] for key in ("published", "recipe"))
    if published and recipe:
        raise InputError(f"published={published} is a recipe of its own; expected no recipe={recipe} beside it")
    chosen: list[str] = []
    if recipe:
        role = "model" if command == "train" else "student"
        chosen = recipe_words(recipe, said.get(f"{role}.name", [""])[-1], role)
    if published:
        row = find_row(published)
        if row.command != command:
            raise InputError(f"published={row.id} is for mcld {row.command}: mcld {row.command} published={row.id}")
        if "method" not in said and (reason := absent(row)):
            raise InputError(f"published={row.id}: {reason}; see what is here: mcld published")
        if row.teacher is not None and not {"teacher.name", "teacher.checkpoint", "teacher.pretrained"} & set(said):
            raise InputError(
                f"published={row.id} needs the weights of the teacher {row.teacher}: teacher=RUN, such as a run of "
                f"mcld train published={row.data}/{row.pair.split('-')[0]}, or teacher.checkpoint=FILE"
            )
        other = "method" in said  # then the row's own options and weight are of no use
        chosen = [word for word in row.words if not (other and word.startswith(("method.", "ce_weight=")))]
    return [word for word in chosen if _key(word) not in said] + list(words)


def _key(word: str) -> str:
    match = re.match(r"[+~]*([\w.]+)", word)
    key = match[1] if match else word
    return f"{key}.name" if key in NAMED else key
