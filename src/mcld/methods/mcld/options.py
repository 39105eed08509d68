"""What can be chosen for each perspective of MCLD."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from mcld.checks import check_choice, check_flag, check_names, check_options, check_share
from mcld.errors import InputError

ANCHORS = ("student", "teacher", "both")
TARGETS = ("hard", "soft")
FORMS = ("columns", "prototypes")


@dataclasses.dataclass
class Sample:
    """Options of the sample-wise term: images with the same label belong together.

    Attributes:
        weight: at least 0; at 0 the term is not computed.
        temperature: > 0, for cosines.
        anchor: ``student`` (each row of the student looks for its own among the teacher's), ``teacher`` (the other way
            round) or ``both`` (the mean of the two).
        targets: ``hard`` (equal weight on all that belong to the anchor) or ``soft`` (the softmax of the teacher's own
            similarities over the same candidates, which a student that equals the teacher minimises).
        target_temperature: of soft targets, > 0; by default the temperature.
    """

    weight: float = 3.0
    temperature: float = 0.2
    anchor: str = "student"
    targets: str = "hard"
    target_temperature: float | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__.lower()
        check_options(non_negative={f"{name}.weight": self.weight})
        check_options(positive={f"{name}.temperature": self.temperature})
        check_choice(f"{name}.anchor", self.anchor, ANCHORS)
        check_choice(f"{name}.targets", self.targets, TARGETS)
        if self.target_temperature is not None:
            check_options(positive={f"{name}.target_temperature": self.target_temperature})


@dataclasses.dataclass
class Instance(Sample):
    """Options of the instance-wise term: the two networks' logits of one image belong together.

    Those that are not explained here are as in :class:`Sample`.

    Attributes:
        target_mask: the Target Mask: leave *other* images of the anchor's class out of the denominator.
    """

    target_mask: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("instance.target_mask", self.target_mask)


@dataclasses.dataclass
class Category(Sample):
    """Options of the category-wise term: the two networks' views of one class belong together.

    Those that are not explained here are as in :class:`Sample`.

    Attributes:
        form: ``columns`` (a class is its column of the logits, one number for each image of the batch; every class has
            one, also without an image in the batch) or ``prototypes`` (a class is the mean logit row of its images in
            the batch and the bank; anchors are the rows of images, classes without an image do not count).
        warmup: the share of training, from 0 to 1, over which the term grows linearly from 0 to full strength.
    """

    form: str = "columns"
    warmup: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("category.form", self.form, FORMS)
        check_share("category.warmup", self.warmup)


OptionsT = TypeVar("OptionsT", Instance, Sample, Category)


def options_of(cls: type[OptionsT], given: OptionsT | Sample | Mapping[str, Any]) -> OptionsT:
    """A checked copy of a perspective's options.

    Raises:
        InputError: for an unknown option, with the nearest right one, or a value out of range.
    """
    name = cls.__name__.lower()
    if isinstance(given, Mapping):
        check_names(f"option of {name}", given, [field.name for field in dataclasses.fields(cls)])
        return cls(**given)
    if type(given) is not cls:
        raise InputError(f"{name} is {given!r}; expected {cls.__name__}(...) or a mapping of its options")
    return dataclasses.replace(given)


def _every(**options: str | float) -> dict[str, dict[str, str | float]]:
    """The same options for each perspective."""
    return {name: dict(options) for name in ("instance", "sample", "category")}


# The readings of the paper's words, and the settings of related methods.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "mask_off": {"instance": {"target_mask": False}},
    "teacher_anchor": _every(anchor="teacher"),
    "both": _every(anchor="both"),
    "prototypes": {"category": {"form": "prototypes"}},
    "soft": _every(targets="soft"),
    "uncentered": {"center": False},
    "bank4096": {"bank": 4096},
    "standardized": {"standardize": True},
    "logits": {
        "softmax": None,
        **_every(weight=1.0, temperature=0.1),
    },  # the default before docs/how-we-read-the-paper.md
    "ckd": {
        "instance": {"weight": 100.0, "temperature": 1.0, "anchor": "teacher", "target_mask": False},
        "sample": {"weight": 0.0},
        "category": {"weight": 0.0},
        "center": False,
        "softmax": None,
    },
}
