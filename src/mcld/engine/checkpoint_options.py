"""What may be said of the checkpoints of a run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Checkpoints:
    """When to save the state of a run for ``mcld resume``, besides the end of each epoch and an interruption.

    Attributes:
        minutes: at most this long between two.
    """

    minutes: float = 10.0
