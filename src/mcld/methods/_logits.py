"""What the methods on logits share."""

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from mcld.errors import InputError
from mcld.methods._base import Method, Outputs, Shapes, Terms, check_batch
from mcld.methods._standardize import standardize_rows
from mcld.progress import at_most, factor, floor
from mcld.rows import at_least_float32, no_autocast

Pair: TypeAlias = tuple[Tensor, Tensor]
"""Logits (B, C) of student and teacher."""


class LogitMethod(Method):
    """A method that needs logits alone.

    A subclass gives :meth:`terms`, or :meth:`view_terms` if it uses two views. The logits arrive checked, in at least
    float32, standardised if the option ``standardize`` says so, and autocast is off. One whose images do not depend on
    one another says ``requires_global_batch = False``.

    Args:
        standardize: true or false; give each row of logits mean 0 and standard deviation 1 first.
    """

    family = "logits"
    standardize: bool = dataclasses.field(default=False, kw_only=True)

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Note the number of epochs; see :meth:`Method.prepare`."""
        self.epochs = epochs

    def epoch(self, progress: float) -> float:
        """The epoch that runs at this share of training, counted from 1 as the field's schedules do.

        Raises:
            InputError: when nobody has said how many epochs there are.
        """
        epochs = self.known_epochs()
        return at_most(floor(progress * epochs + 1e-9) + 1, epochs)  # 1e-9: the rounding of progress

    def warmed_up(self, progress: float, warmup: float) -> float:
        """min(epoch / warmup, 1), which changes once an epoch; 1 without a warm-up."""
        return factor(at_most(self.epoch(progress) / warmup, 1.0)) if warmup > 0 else 1.0

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """Return the weighted terms; see :meth:`Method.forward`."""
        progress = self.known_progress(progress)
        pairs = view_pairs(student, teacher, labels, number=self.views, values=self.check_values)
        with no_autocast(pairs[0][0]):
            return self.view_terms(pairs, labels.to(torch.int64), progress)

    def ready(self, student: Tensor, teacher: Tensor, standardize: bool = True) -> Pair:
        """Both logits in at least float32, standardised if the option says so and ``standardize`` does too."""
        if self.standardize and standardize:
            student, teacher = standardize_rows(student), standardize_rows(teacher)
        s, t = at_least_float32(student, teacher)
        return s, t

    def view_terms(self, pairs: Sequence[Pair], labels: Tensor, progress: float) -> Terms:
        """Return the weighted terms, from the logits of one view or two as they came; see :meth:`terms`."""
        return self.terms(*self.ready(*pairs[0]), labels, progress)

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return the weighted terms of one view.

        Args:
            student: logits (B, C).
            teacher: logits (B, C) without gradient.
            labels: (B,) int64.
            progress: from 0 to 1.
        """
        raise NotImplementedError


def view_pairs(
    student: Outputs | Tensor, teacher: Outputs | Tensor, labels: Tensor, *, number: int, values: bool
) -> list[Pair]:
    """Checked logits of the first view and, if ``number`` is 2 and both networks have it, of the second.

    Raises:
        InputError: for logits or labels that cannot be right, or a second view of one network only.
    """
    pairs = [check_batch(student, teacher, labels, values=values)]
    if number == 1:
        return pairs
    second_s = student.other if isinstance(student, Outputs) else None
    second_t = teacher.other if isinstance(teacher, Outputs) else None
    if (second_s is None) != (second_t is None):
        has, lacks = ("student", "teacher") if second_t is None else ("teacher", "student")
        raise InputError(f"{has} has a second view and {lacks} has none; expected one of both or of neither")
    if second_s is not None and second_t is not None:
        pairs.append(check_batch(second_s, second_t, labels, values=values))
    return pairs


def others(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits (B, C − 1) of all classes but the label's, in their order."""
    places = torch.arange(logits.shape[1] - 1, device=logits.device).expand(len(labels), -1)
    return logits.gather(1, places + (places >= labels.unsqueeze(1)))


def kl_rows(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(p ‖ q) along the last dimension, from the logarithms of the probabilities; ``F.kl_div`` has no vmap."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def check_two_classes(logits: Tensor) -> None:
    """Check that there is a class besides the label's.

    Raises:
        InputError: for fewer than two classes.
    """
    if logits.shape[1] < 2:
        raise InputError(f"the logits have {logits.shape[1]} class; expected at least 2")
