"""Learning-rate schedules: pure functions of the share of training that is done, so there is no state to restore."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mcld.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """How long to train, and the learning rate on the way; every point is a fraction of the run.

    Attributes:
        name: ``one_cycle`` (from 1/25 of the learning rate up for 0.3 of the run, then down to 0), ``cosine`` (to 0),
            ``step`` (times ``gamma`` at each milestone) or ``constant``.
        epochs: passes over the training data.
        lr: the highest learning rate; by default the architecture's (``mcld models``).
        warmup: the fraction of the run over which the learning rate rises linearly from 0.
        milestones: for ``step``; the default is the field's 150, 180 and 210 of 240 epochs.
        gamma: for ``step``.
    """

    name: str = "one_cycle"
    epochs: int = 50
    lr: float | None = None
    warmup: float = 0.0
    milestones: list[float] = field(default_factory=lambda: [0.625, 0.75, 0.875])
    gamma: float = 0.1


SCHEDULES = ("cosine", "step", "one_cycle", "constant")


def check_schedule(schedule: Schedule) -> None:
    """Check the settings of a schedule.

    Raises:
        InputError: for an unknown name, or fractions of the run that are not between 0 and 1 or do not rise.
    """
    name, warmup, milestones = schedule.name, schedule.warmup, schedule.milestones
    if name not in SCHEDULES:
        raise InputError(f"schedule={name}: no such schedule; expected one of {', '.join(SCHEDULES)}")
    if not 0 <= warmup < 1:
        raise InputError(f"schedule.warmup={warmup}; expected a fraction of the run, at least 0 and below 1")
    if any(not 0 <= point <= 1 for point in milestones):
        raise InputError(f"schedule.milestones={list(milestones)}; expected fractions of the run, from 0 to 1")
    if any(after <= before for before, after in itertools.pairwise(milestones)):
        raise InputError(f"schedule.milestones={list(milestones)}; expected fractions of the run, each above the last")


def learning_rate_factor(
    name: str, progress: float, *, warmup: float = 0.0, milestones: Sequence[float] = (), gamma: float = 0.1
) -> float:
    """What the highest learning rate is multiplied with.

    Args:
        name: one of ``SCHEDULES``.
        progress: the share of training that is done, from 0 to 1.
        warmup: the share over which the factor first rises linearly; it scales whatever the schedule says.
        milestones: for ``step``, the shares at which the factor is multiplied by gamma.
        gamma: for ``step``.

    >>> learning_rate_factor("cosine", 0.5)
    0.5
    >>> round(learning_rate_factor("step", 0.8, milestones=[0.625, 0.75, 0.875]), 6)
    0.01
    """
    if name == "step":
        factor = gamma ** sum(progress >= point for point in milestones)
    elif name == "constant":
        factor = 1.0
    elif name == "one_cycle":
        rise = 0.3
        factor = (
            _cosine(1 / 25, 1.0, progress / rise)
            if progress < rise
            else _cosine(1.0, 0.0, (progress - rise) / (1 - rise))
        )
    else:
        factor = _cosine(1.0, 0.0, progress)
    if progress < warmup:
        factor *= progress / warmup
    return factor


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
