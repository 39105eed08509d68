"""What wraps another method: its loss of each image by itself, to be weighed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mcld.checks import check_names
from mcld.errors import InputError
from mcld.methods._base import LOGITS, Method, Outputs, Shapes, Terms, check_batch
from mcld.registry import METHODS
from mcld.rows import no_autocast


class PerImage(Method):
    """Another method's terms, each image's loss times a weight of its own.

    The other method must read logits alone, of one view, and treat each image by itself: its loss of a batch is the
    mean of those of its images, which is how the loss of each is found. Terms keep their names. The weight of
    cross-entropy and parameters are the other method's.

    Args:
        of: the name of the other method.
        options: of the other method; what is not named keeps its default.
    """

    family = "logits"
    requires_global_batch = False
    of: str = "kd"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the other method; see :meth:`Method.__post_init__`."""
        super().__post_init__()
        if not isinstance(self.options, Mapping):
            raise InputError(f"options is {self.options!r}; expected a mapping, from the other method's options")
        check_names("method", [self.of], METHODS.names())
        cls = METHODS.get(self.of)
        options = {**self.defaults(cls), **self.options}
        check_names(f"option of {self.of}", options, cls.option_names())
        self.inner = cls(**options)
        if not _treats_each_image_by_itself(self.inner):
            raise InputError(
                f"of is {self.of!r}, which does not treat each image by itself, on logits of one view; expected one "
                f"that does: {', '.join(per_image_methods())}"
            )
        self.keeps = self.inner.keeps
        self.ce_weight, self.target_terms = self.inner.ce_weight, self.inner.target_terms

    def defaults(self, cls: type[Method]) -> dict[str, Any]:
        """What the wrapper sets among the other method's options, where ``options`` does not."""
        return {}

    @property
    def ramps(self) -> bool:
        """Where the other method does."""
        return self.inner.ramps

    @property
    def counts_epochs(self) -> bool:
        """Where the other method does."""
        return self.inner.counts_epochs

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Prepare the other method; see :meth:`Method.prepare`."""
        self.inner.prepare(student, teacher, images, epochs, labels)

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """Return the other method's terms, weighed; see :meth:`Method.forward`."""
        progress = self.known_progress(progress)
        s, t = check_batch(student, teacher, labels, values=self.check_values)
        with no_autocast(s):
            s, t, weights = self.weigh(s, t)
            losses = losses_of_images(self.inner, s, t, labels, progress)
            return {name: (loss * weights.to(loss.dtype)).mean() for name, loss in losses.items()}

    def weigh(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The logits (B, C) that the other method is to compare, and the weight of each image, (B,)."""
        raise NotImplementedError


def losses_of_images(
    method: Method, student: Tensor, teacher: Tensor, labels: Tensor, progress: float
) -> dict[str, Tensor]:
    """The terms of each image by itself, (B,) each: those of batches of one image, computed at once.

    Args:
        method: one that treats each image by itself.
        student: checked logits (B, C).
        teacher: checked logits (B, C).
        labels: (B,).
        progress: from 0 to 1.
    """
    method.check_values = False  # they are checked, and cannot be looked at inside vmap

    def one(s: Tensor, t: Tensor, label: Tensor) -> Terms:
        terms: Terms = method(s.unsqueeze(0), t.unsqueeze(0), label.unsqueeze(0), progress)
        return terms

    losses: dict[str, Tensor] = torch.vmap(one)(student, teacher, labels)
    return losses


def per_image_methods() -> list[str]:
    """The methods that can be wrapped."""
    return [name for name, cls in METHODS.items().items() if _treats_each_image_by_itself(cls)]


def _treats_each_image_by_itself(method: Method | type[Method]) -> bool:
    wrapper = issubclass(method if isinstance(method, type) else type(method), PerImage)
    return method.needs == LOGITS and method.views == 1 and not method.requires_global_batch and not wrapper
