"""From ``published=ID`` and ``recipe=NAME`` to the settings that they stand for."""

import re
from collections.abc import Sequence

from mcld.configs.published import Row, find_row
from mcld.configs.recipes import recipe_words
from mcld.errors import InputError
from mcld.methods import list_methods, method_class

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
    published, recipe = _named("published", words), _named("recipe", words)
    if published and recipe:
        raise InputError(f"published={published} is a recipe of its own; expected no recipe={recipe} beside it")
    if recipe:
        role = "model" if command == "train" else "student"
        networks = [word.partition("=")[2].strip("'\"") for word in words if _key(word) == f"{role}.name"]
        given = {_key(word) for word in words}
        chosen = recipe_words(recipe, networks[-1] if networks else "", role)
        return [word for word in chosen if _key(word) not in given] + list(words)
    return _row_words(command, published, words) if published else list(words)


def _row_words(command: str, published: str, words: Sequence[str]) -> list[str]:
    row = find_row(published)
    if row.command != command:
        raise InputError(f"published={row.id} is for mcld {row.command}: mcld {row.command} published={row.id}")
    given = {_key(word) for word in words}
    if "method" not in given and (reason := absent(row)):
        raise InputError(f"published={row.id}: {reason}; see what is here: mcld published")
    kept = []
    for word in row.words:
        key = _key(word)
        of_other_method = "method" in given and (key == "ce_weight" or key.startswith("method."))
        if key not in given and not of_other_method:
            kept.append(word)
    weights = {"teacher.name", "teacher.checkpoint", "teacher.pretrained"}
    if row.teacher is not None and not weights & given:
        raise InputError(
            f"published={row.id} needs the weights of the teacher {row.teacher}: teacher=RUN, such as a run of "
            f"mcld train published={row.data}/{row.pair.split('-')[0]}, or teacher.checkpoint=FILE"
        )
    return kept + list(words)


def _named(key: str, words: Sequence[str]) -> str | None:
    """The one value of ``key=``, if it is among the words."""
    named = [word.partition("=")[2].strip("'\"") for word in words if word.startswith(f"{key}=")]
    if len(named) > 1 or (named and "," in named[0]):
        what = "row" if key == "published" else "recipe"
        raise InputError(f"{key}={','.join(named)}: expected one {what}; run them one after another")
    return None if named in ([], ["null"]) else named[0]


def absent(row: Row) -> str:
    """Why a row cannot be run here, in a few words; empty when it can."""
    if row.method not in list_methods():
        return f"the method {row.method} ({row.title}) is not here (yet)"
    known = method_class(row.method).option_names()
    missing = [key for key in row.options if key not in known]
    if missing:
        return f"the method {row.method} has no option {', '.join(missing)} here (yet)"
    return ""


def _key(word: str) -> str:
    match = re.match(r"[+~]*([\w.]+)", word)
    key = match[1] if match else word
    return f"{key}.name" if key in NAMED else key
