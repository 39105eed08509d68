"""The small protocol that every distillation method follows."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias, dataclass_transform

import torch
from torch import Tensor, nn

from mcld.checks import check_label_range, check_row_integers, check_share
from mcld.errors import InputError
from mcld.options import check_fields, declare_options, option_names

LOGITS = frozenset({"logits"})


class Outputs(NamedTuple):
    """What a network says about a batch. A method gets only what it named in ``needs``; the rest stays empty.

    Attributes:
        logits: (B, C).
        pooled: (B, D), the input of the classifier, for methods that need ``"pooled"``.
        maps: one (B, c, h, w) tensor per stage, for methods that need ``"maps"``.
        classifier: (C, D) weight and (C,) bias of the last layer, for methods that need ``"classifier"``.
        other: the same for a second view of the same images, for methods with two ``views``.
    """

    logits: Tensor
    pooled: Tensor | None = None
    maps: tuple[Tensor, ...] = ()
    classifier: tuple[Tensor, Tensor | None] | None = None
    other: "Outputs | None" = None


class Shapes(NamedTuple):
    """The sizes of a network's outputs, from which a method sizes its projectors.

    Attributes:
        classes: C.
        pooled: D, where the method needs it, else 0.
        maps: (c, h, w) of each stage, where the method needs them.
    """

    classes: int
    pooled: int = 0
    maps: tuple[tuple[int, int, int], ...] = ()


Terms: TypeAlias = dict[str, Tensor]


@dataclass_transform(eq_default=False, field_specifiers=(dataclasses.field,))
class Method(nn.Module):
    """A distillation method: a module that turns the two networks' outputs into named, weighted loss terms.

    A method is one class under a name (:func:`mcld.register_method`), most often of :class:`mcld.LogitMethod` or
    :class:`mcld.FeatureMethod`. Its options are the annotated fields of the class, as in a dataclass: the constructor
    takes them, checks them by their types (:mod:`mcld.options`) and keeps them under their names. Whatever else there
    is to make belongs into ``__post_init__``, which calls ``super().__post_init__()`` first. A class with an
    ``__init__`` of its own has that one's arguments as its options.

    Parameters that the method owns (a projector, a learnable temperature) are trained with the student, saved for
    resume and never part of the student's weights.
    """

    name: ClassVar[str] = ""
    """The registered name; without one, that of the class in lower case."""
    title: ClassVar[str] = ""
    """One line for ``mcld methods``; by default the docstring's first."""
    paper: ClassVar[str] = ""
    """Authors, venue and year."""
    year: ClassVar[int] = 0
    """The year in which the paper first appeared; 0 without a paper."""
    family: ClassVar[str] = ""
    """What is matched: ``logits``, ``features`` or ``relations``; empty when nothing is."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named options, mostly as published for a pair of networks (``resnet32x4-resnet8x4``: teacher, then student).
    Options not named keep their defaults."""
    preset_ce_weights: ClassVar[Mapping[str, float]] = {}
    """The weight of cross-entropy that goes with a preset, where it is not :attr:`ce_weight`."""
    needs: frozenset[str] = LOGITS
    """What it reads from both networks: any of ``logits``, ``pooled``, ``maps``, ``classifier``; empty when there is no
    teacher."""
    preactivation = "none"
    """Of which networks the maps are those before the last activation of each stage, where these are known: ``none``,
    ``teacher`` or ``both``. No type, since a method may make it an option."""
    views: int = 1
    """Augmented views of each image in one step: 1 or 2."""
    second_policy: str | None = None
    """The further augmentation of the second view in the paper: ``trivial``, ``rand`` or ``fixmatch``; None for that of
    the first view."""
    separate_views: bool = False
    """Whether each of two views goes through the student by itself, so that batch normalisation takes the statistics of
    one view at a time and follows both; else they are one batch."""
    requires_global_batch: bool = True
    """Whether data-parallel ranks must join their batches. A method in which an image's loss does not depend on the
    others of the batch may say False, which is faster; it is wrong for all others, batch normalisation included."""
    ce_weight: float = 1.0
    """The weight of cross-entropy that belongs to the method; the training loop adds that term."""
    task_terms: frozenset[str] = frozenset()
    """Terms that are the task itself, such as cross-entropy of a second view, and not learnt from the teacher."""
    target_terms: frozenset[str] = frozenset()
    """Terms about the label's class alone, where others are about the other classes (``optimizer=deepkd``)."""
    keeps: bool = False
    """Whether it keeps something from step to step, or learns: projectors, banks. Others are functions, too
    (:mod:`mcld.functional`)."""
    reuses_classifier: bool = False
    """Whether the student is built with a projector and the teacher's own last layer in place of its last layer."""
    training_bank: bool = False
    """Whether it compares with the teacher's logits of all training images: :meth:`fill_bank` before the first step."""
    check_values: bool = True
    """Whether to look for NaN, Inf and labels out of range in every call. That forces an accelerator to synchronise;
    the training loop switches it off, since it watches the loss terms itself."""

    @property
    def ramps(self) -> bool:
        """Whether its terms change with the progress of training, so that a call must say how far that is."""
        return False

    @property
    def counts_epochs(self) -> bool:
        """Whether it counts epochs, so that :meth:`prepare` must know how many there are."""
        return False

    epochs = 0
    """Of the whole training; 0 until :meth:`prepare` says it to a method that counts them."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        declare_options(cls, Method)

    def __init__(self) -> None:
        self.__post_init__()

    def __post_init__(self) -> None:
        """Make the module, and check the options that are fields; what a subclass adds comes after this.

        Raises:
            InputError: for an option out of range.
        """
        super().__init__()
        if dataclasses.is_dataclass(self):
            check_fields(self)

    @classmethod
    def option_names(cls) -> list[str]:
        """The options, in the order of the constructor."""
        return option_names(cls)

    def extra_repr(self) -> str:
        """The options, for printing."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.option_names() if hasattr(self, name))

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Make what depends on the networks and the data, once, before training: projectors, banks, ramps in epochs.

        Args:
            student: the sizes of the student's outputs.
            teacher: the sizes of the teacher's outputs.
            images: the number of training images; 0 for unknown.
            epochs: of the whole run; 0 for unknown.
            labels: of the training images, (N,) int64, where they are known.

        Raises:
            InputError: when the method cannot match these networks, with both shapes.
        """

    def check_networks(self, student: Outputs, teacher: Outputs) -> None:
        """Check, once and before training, what can be seen only in outputs: here those for one black image.

        Raises:
            InputError: when the method cannot match these networks.
        """

    def fill_bank(self, logits: Tensor, labels: Tensor, index: Tensor | None = None) -> None:
        """Take the teacher's logits of the whole training set, for a method with ``training_bank``.

        They are no part of the state dict: whoever goes on with a run gives them again.

        Args:
            logits: (n, C) of the teacher, for the plain views.
            labels: (n,).
            index: (n,) positions in the training set; None for unknown.

        Raises:
            InputError: for shapes that do not fit, or when there is no bank.
        """
        raise InputError(f"{type(self).__name__} has no bank to fill")

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """Return the weighted terms of the distillation objective.

        Args:
            student: outputs of the student, or just its logits (B, C).
            teacher: outputs of the teacher, or just its logits (B, C); no gradient flows to them.
            labels: (B,) int64 class indices.
            progress: the share of training that is done, from 0 to 1; needed where the method :attr:`ramps`.
            index: (B,) int64 positions of the images in the training set, for methods that keep something per image.

        Returns:
            Named scalars whose sum is the objective, cross-entropy not included.

        Raises:
            InputError: for shapes, labels or values that cannot be right, or a progress that is missing.
        """
        raise NotImplementedError

    def known_epochs(self) -> int:
        """How many epochs the whole training has.

        Raises:
            InputError: when nobody has said it to :meth:`prepare`.
        """
        if not self.epochs:
            raise InputError(
                f"{self.name} counts epochs; expected how many there are: epochs=... of the Distiller, or "
                "of prepare(...)"
            )
        return self.epochs

    def known_progress(self, progress: float | None) -> float:
        """The progress of training, checked; 1 where nobody says it and it makes no difference.

        Raises:
            InputError: for what is no share of training, or None where the method :attr:`ramps`.
        """
        if progress is None:
            if self.ramps:
                raise InputError(
                    f"{self.name} changes with the progress of training; expected progress=..., the share of "
                    "it that is done, from 0 to 1"
                )
            return 1.0
        if not isinstance(progress, Tensor) and not torch.compiler.is_compiling():
            check_share("progress", progress)
        return progress


class Warmup:
    """Beside a :class:`Method` whose option ``warmup`` says after how many epochs its terms have full strength."""

    warmup: float

    @property
    def ramps(self) -> bool:
        """Where there is a warm-up."""
        return self.warmup > 0

    @property
    def counts_epochs(self) -> bool:
        """Where there is a warm-up."""
        return self.warmup > 0


def check_batch(
    student: Outputs | Tensor, teacher: Outputs | Tensor, labels: Tensor, *, values: bool
) -> tuple[Tensor, Tensor]:
    """Check logits and labels and return (student logits, teacher logits), the latter detached.

    Raises:
        InputError: naming the argument, what was given, and what would be right.
    """
    s = student.logits if isinstance(student, Outputs) else student
    t = teacher.logits if isinstance(teacher, Outputs) else teacher
    for name, logits in (("student", s), ("teacher", t)):
        if logits.ndim != 2:
            raise InputError(f"{name} logits have shape {tuple(logits.shape)}; expected (B, C), one row per image")
        if not logits.is_floating_point():
            raise InputError(f"{name} logits are {logits.dtype}; expected floating point")
    if s.shape[0] != t.shape[0]:
        raise InputError(f"student has {s.shape[0]} rows and teacher {t.shape[0]}; expected the same images in both")
    if s.shape[1] != t.shape[1]:
        raise InputError(
            f"student has {s.shape[1]} classes and teacher {t.shape[1]}; expected the same classes in both"
        )
    if s.shape[0] == 0 or s.shape[1] == 0:
        raise InputError(f"the logits have shape {tuple(s.shape)}; expected at least one image and one class")
    check_row_integers("labels", labels, s.shape[0])
    if values and not torch.compiler.is_compiling():
        for name, logits in (("student", s), ("teacher", t)):
            bad = int((~torch.isfinite(logits)).sum())
            if bad:
                raise InputError(
                    f"{name} logits hold {bad} NaN or Inf values of {logits.numel()}; expected finite numbers"
                )
        check_label_range(labels, s.shape[1])
    return s, t.detach()
