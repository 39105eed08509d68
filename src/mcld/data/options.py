"""What every data set has for options; its own are a dataclass on top of these, beside the code that reads it."""

from dataclasses import dataclass
from typing import Annotated

from mcld.data.policies import POLICIES
from mcld.options import MISSING, OBJECT, File, between, one_of

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
        sampler: which images an epoch shows: ``none``, each once; ``balanced``, as many of each class, those of a small
            class several times, those of a large one in turn over the epochs.
        workers: processes that read and decode image files; by default as many as the machine has cores for, at most 8.
            Sets that fit in memory need none.
    """

    name: str = MISSING
    batch_size: Annotated[int, between(1, 1_000_000)] = 64
    augment: bool = True
    policy: Policy = "none"
    second_policy: Policy | None = None
    sampler: Annotated[str, one_of("none", "balanced")] = "none"
    workers: Annotated[int, between(0, 256)] | None = None


@dataclass(frozen=True)
class FileOptions(DataOptions):
    """What data sets of image files have.

    Attributes:
        val: the share of the images to hold out for validation, such as 0.1: the same share of each class, equal files
            together; the run keeps it in ``split.csv``. 1 takes all images, to evaluate.
        val_seed: of the choice of these.
        split: take the split of an earlier run: its directory, or its ``split.csv``.
        image_size: pixels; by default the median short side of the training images, rounded down to a multiple of 32,
            at most 224.
        scale: the smallest share of an image's area that a random crop keeps. ImageNet recipes use 0.08; 0.35 is
            milder, for sets of thousands of images.
        cache: keep the decoded images in the user's cache folder: ``on``, ``off``, or ``auto``: where there is room on
            the disk and in memory.
        bits: of grey images with more than 8 bits: 8, 10, 12, 14 or 16; by default what the largest value needs.
        max_megapixels: refuse larger images (decompression bombs), in millions of pixels.
    """

    val: str | None = None
    val_seed: Annotated[int, between(0, 2**63 - 1)] = 0
    split: File | None = None
    image_size: Pixels | None = None
    scale: float = 0.35
    cache: str = "auto"
    bits: int | None = None
    max_megapixels: Megapixels = 178


@dataclass(frozen=True)
class OwnData:
    """Data that was given as an object: it has no more options than these.

    Attributes:
        name: of an object.
        batch_size: images in one step, all devices together.
        augment: it transforms its images itself.
        policy: see ``augment``.
        second_policy: see ``augment``.
        sampler: ``none`` or ``balanced``, which shows as many images of each class.
        workers: processes that read the images; by default as many as the machine has cores for, at most 8.
    """

    name: str = OBJECT
    batch_size: int = 64
    augment: bool = False
    policy: str = "none"
    second_policy: str | None = None
    sampler: str = "none"
    workers: int | None = None
