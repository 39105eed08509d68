"""What every data set has for options; its own are a dataclass on top of these, beside the code that reads it."""

from dataclasses import dataclass
from typing import Annotated

from mcld.data.policies import POLICIES
from mcld.options import MISSING, between, one_of

Policy = Annotated[str, one_of(*POLICIES)]
Pixels = Annotated[int, between(1, 8192)]
Megapixels = Annotated[int, between(1, 1_000_000)]


@dataclass(frozen=True)
class DataOptions:
    """What every data set has.

    Attributes:
        name: one of ``mcld data``.
        batch_size: images in one step, all devices together.
        augment: False shows every training image plainly, without random crops and flips.
        policy: a further augmentation of training images: ``none``, ``trivial`` (TrivialAugment), ``rand``
            (RandAugment) or ``fixmatch`` (two operations at random strengths and a square, MLKD's strong view).
        second_policy: that of the second view of an image, for methods that take two; by default the method's own
            (``mcld methods NAME``).
        workers: processes that read and decode image files; by default as many as the machine has cores for, at most 8.
            Sets that fit in memory need none.
    """

    name: str = MISSING
    batch_size: Annotated[int, between(1, 1_000_000)] = 64
    augment: bool = True
    policy: Policy = "none"
    second_policy: Policy | None = None
    workers: Annotated[int, between(0, 256)] | None = None
