"""A teacher that knows nothing is a mistake, most often of the set-up."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mcld.errors import InputError
from mcld.evaluation import Accuracy

LUCK = 0.01
"""How likely guessing may be at most to do as well as a teacher."""


def check_teacher(name: str, accuracy: Accuracy, *, allow_near_chance: bool = False) -> None:
    """Refuse a teacher that guessing would equal once in a hundred times or more often.

    What is compared is mean per-class (balanced) accuracy: it is 1 / C for a network that always names the same class,
    however common that is. How often guessing does as well is the exact tail of the binomial distribution, so that the
    same holds for few images as for many.

    Args:
        name: what to call the teacher.
        accuracy: on the validation data.
        allow_near_chance: accept it all the same.

    Raises:
        InputError: with the likely causes; with too few images that is one of them.
    """
    if allow_near_chance:
        return
    classes, count, on = accuracy.classes, accuracy.count, "to go on all the same: teacher.allow_near_chance=true"
    if classes < 2:
        raise InputError(f"teacher {name} knows one class, and there is nothing to tell apart; expected at least 2")
    chance = 1 / classes
    luck = guessing_does(round(accuracy.balanced * count), count, chance)
    if luck <= LUCK * (1 + 1e-9):
        return
    shown = f"mean per-class accuracy {accuracy.balanced:.1%}, guessing gives {chance:.1%}"
    least = math.ceil(math.log(LUCK) / math.log(chance) - 1e-9)
    if count < least:
        raise InputError(
            f"teacher {name} cannot be told from guessing on {count} validation images: {shown}; expected at least "
            f"{least} images, with which a perfect teacher can; {on}"
        )
    few = guessing_does(round(accuracy.balanced * 10 * count), 10 * count, chance) <= LUCK
    cause = (
        f"too few validation images ({count}: guessing does as well once in {max(1 / luck, 1):.0f} times), "
        if few
        else ""
    )
    raise InputError(
        f"teacher {name} is near chance on the validation data: {shown}; likely causes: {cause}no or wrong checkpoint "
        f"(teacher.checkpoint), wrong normalisation (teacher.mean, teacher.std), wrong class order; {on}"
    )


def guessing_does(hits: int, count: int, chance: float) -> float:
    """How likely at least so many of count guesses are right, each with the same chance.

    >>> guessing_does(2, 2, 0.5)
    0.25
    """
    if hits <= count * chance:
        return 1.0 if hits <= 0 else 0.5  # or more: it is not needed more exactly
    term = math.exp(
        math.lgamma(count + 1)
        - math.lgamma(hits + 1)
        - math.lgamma(count - hits + 1)
        + hits * math.log(chance)
        + (count - hits) * math.log1p(-chance)
    )
    total, odds = 0.0, chance / (1 - chance)
    for k in range(hits, count + 1):
        total += term
        term *= (count - k) / (k + 1) * odds
        if term < total * 1e-12:
            break
    return min(total, 1.0)


def number_order(classes: Sequence[str]) -> list[int] | None:
    """For each class its place in the order of numbers, where all names are numbers and that is another order.

    >>> number_order(["0", "1", "10", "2"])
    [0, 1, 3, 2]
    """
    if not all(name.isascii() and name.isdigit() for name in classes):
        return None
    by_number = sorted(range(len(classes)), key=lambda place: int(classes[place]))
    places = sorted(range(len(classes)), key=by_number.__getitem__)
    return places if places != list(range(len(classes))) else None


def order_warning(who: str, classes: Sequence[str]) -> list[str]:
    """A line for weights that do not say what their classes are, when the order of these may be another one."""
    if number_order(classes) is None:
        return []
    some = ", ".join(classes[:4])
    return [
        f"warning: {who}: its weights do not say which output is which class; the data's classes are numbers in the "
        f"order of text ({some}, …), so what was trained in the order of numbers is wrong here; names with leading "
        "zeros (00, 01, …) have one order"
    ]


def check_order(
    name: str, classes: Sequence[str], predicted: Tensor, labels: Tensor, *, allow_near_chance: bool = False
) -> None:
    """Refuse a teacher that is right far more often when its outputs are taken in the order of numbers.

    Args:
        name: what to call the teacher.
        classes: of the data, in order.
        predicted: (N,) the classes that it names.
        labels: (N,) the right ones.
        allow_near_chance: accept it all the same.

    Raises:
        InputError: with both accuracies.
    """
    places = number_order(classes)
    if places is None or allow_near_chance or len(labels) == 0:
        return
    here = float((predicted == labels).double().mean())
    there = float((predicted == torch.tensor(places, device=labels.device)[labels]).double().mean())
    if there - here > 3 * math.sqrt(0.5 / len(labels)):  # three standard errors of a difference at most
        raise InputError(
            f"teacher {name} has its classes in the order of numbers, and the data in the order of text "
            f"({', '.join(classes[:4])}, …): it is right on {here:.1%} of the validation images, and would be on "
            f"{there:.1%} in its own order; expected names with leading zeros (00, 01, …), which have one order; "
            "to go on all the same: teacher.allow_near_chance=true"
        )
