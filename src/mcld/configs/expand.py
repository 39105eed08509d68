"""From ``published=ID`` and ``recipe=NAME`` to the words that they stand for."""

from collections.abc import Mapping, Sequence

from mcld.configs.published import absent, find_row
from mcld.configs.recipes import recipe_words
from mcld.errors import InputError

NAMED = ("model", "teacher", "student", "schedule", "optimizer")  # KEY=X is short for KEY.name=X


def expand(command: str, said: Mapping[str, Sequence[str]]) -> list[str]:
    """The words of a published row or a recipe.

    Args:
        command: ``train`` or ``distill``.
        said: what a person said for each setting.

    Raises:
        InputError: for a recipe that is unknown or beside a row, or a row that is unknown, of the other command, or of
            a method that is not here; and when nobody says where the teacher's weights are.
    """
    for key, what in (("published", "row"), ("recipe", "recipe")):
        if "," in (named := ",".join(said.get(key, []))):
            raise InputError(f"{key}={named}: expected one {what}; run them one after another")
    published, recipe = ("" if said.get(key) in (None, ["null"]) else said[key][0] for key in ("published", "recipe"))
    if published and recipe:
        raise InputError(f"published={published} is a recipe of its own; expected no recipe={recipe} beside it")
    if recipe:
        role = "model" if command == "train" else "student"
        return recipe_words(recipe, said.get(f"{role}.name", [""])[-1], role)
    if not published:
        return []
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
    return [word for word in row.words if not (other and word.startswith(("method.", "ce_weight=")))]
