"""Do the teacher's classes match the data's?"""

from collections.abc import Sequence

from mcld.data._types import DataInfo
from mcld.errors import InputError
from mcld.text import name_of


def check_classes(teacher_classes: Sequence[str], data_classes: Sequence[str], who: str = "the teacher") -> None:
    """Check that two lists of classes are the same, in the same order.

    Args:
        teacher_classes: names of the outputs of a trained network.
        data_classes: names of the classes of the data set.
        who: the network, as the message should call it.

    Raises:
        InputError: showing the difference: classes that only one side has, or the first that differ in order.
    """
    theirs, ours = ([name_of(name) for name in names] for names in (teacher_classes, data_classes))
    if theirs == ours:
        return
    only_theirs, only_ours = [c for c in theirs if c not in set(ours)], [c for c in ours if c not in set(theirs)]
    sizes = f"{who} knows {len(theirs)} classes and the data has {len(ours)}"
    if only_theirs or only_ours:
        parts = [
            f"only {side}: {handful(names)}" for side, names in ((who, only_theirs), ("the data", only_ours)) if names
        ]
        raise InputError(f"{sizes}; {'; '.join(parts)}; expected the same classes in the same order")
    if len(theirs) != len(ours):
        raise InputError(f"{sizes}, some of them twice; expected the same classes in the same order")
    moved = [i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]
    shown = ", ".join(f"{i} is {theirs[i]!r} there and {ours[i]!r} here" for i in moved[:3])
    raise InputError(
        f"{who} knows the data's {len(ours)} classes in another order: {len(moved)} differ, class {shown}; "
        "expected the same order"
    )


def check_several(info: DataInfo) -> None:
    """Check that there are classes to tell apart.

    Raises:
        InputError: when there is one.
    """
    if len(info.classes) < 2:
        raise InputError(f"data {info.name} has one class, {info.classes[0]!r}; expected at least two to tell apart")


def handful(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more
