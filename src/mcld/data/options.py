"""What every data set has for options; its own are a dataclass on top of these, beside the code that reads it."""

from dataclasses import dataclass
from typing import Annotated

from mcld.data.policies import POLICIES
from mcld.options import MISSING, OBJECT, between, one_of

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


@dataclass(frozen=True)
class OwnData:
    """Data that was given as an object: it has no more options than these.

    Attributes:
        name: of an object.
        batch_size: images in one step, all devices together.
        augment: it transforms its images itself.
        policy: see ``augment``.
        second_policy: see ``augment``.
        workers: processes that read the images; by default as many as the machine has cores for, at most 8.
    """

    name: str = OBJECT
    batch_size: int = 64
    augment: bool = False
    policy: str = "none"
    second_policy: str | None = None
    workers: int | None = None
