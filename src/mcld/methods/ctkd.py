"""Curriculum temperature for knowledge distillation (CTKD)."""

from typing import Any

import torch
from torch import Tensor, nn

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod
from mcld.methods.kd import kd_loss
from mcld.options import Positive, Temperature
from mcld.progress import at_most, cosine, factor
from mcld.registry import register_method


class ReverseGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by −strength."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, strength: float) -> Tensor:  # noqa: ARG004 - for setup_context
        """Return x."""
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:  # noqa: ARG004 - torch's own
        """Keep the strength."""
        ctx.strength = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Reverse the gradient."""
        return -ctx.strength * gradients[0], None


@register_method("ctkd")
class CTKD(LogitMethod):
    """KD whose temperature is learnt against the student, to make its task harder epoch by epoch (Li et al. 2023).

    The term is ``kl``, as in ``kd``, with one temperature for all images, T = start + span · sigmoid(t), where t is a
    parameter of the method, at first 1. It is trained with the student, by the same optimiser, but its gradient is
    reversed: it climbs the loss that the student descends. The reversal's strength is λ = (1 − cos(π · min(epoch /
    decay, 1))) / 2, with epochs counted from 1 as in the authors' code: near 0 in the first epoch, 1 from epoch
    ``decay`` on (arXiv 2211.16231, sections 3.2 and 3.3; this is the paper's global version). It needs the number of
    epochs (:meth:`prepare`) and the progress of training.

    Args:
        start: the temperature's lower end, > 0.
        span: the upper end minus the lower, > 0.
        decay: epochs until the reversal is at full strength, > 0.
        weight: > 0.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> method = create_method("ctkd")
        >>> round(method.temperature().item(), 4)  # 1 + 20 sigmoid(1) = 1 + 20 · 0.731059
        15.6212
        >>> teacher = torch.tensor([[1000.0, 0.0]])  # certain at any such temperature: KL = log 2
        >>> method.epochs = 240
        >>> terms = method(torch.zeros(1, 2), teacher, torch.tensor([0]), progress=1)
        >>> round(terms["kl"].item(), 2)  # 0.9 · 15.6212² · 0.693147
        152.23
    """

    title = "KD whose temperature is learnt against the student"
    paper = "Li, Li, Yang, Zhao, Song, Luo, Li, Yang, AAAI 2023"
    year = 2022
    keeps = True
    requires_global_batch = False
    ce_weight = 0.1

    start: Temperature = 1.0
    span: Positive = 20.0
    decay: Positive = 10.0
    weight: Positive = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self.t = nn.Parameter(torch.ones(()))

    @property
    def ramps(self) -> bool:
        """Always."""
        return True

    @property
    def counts_epochs(self) -> bool:
        """Always."""
        return True

    def temperature(self, strength: float = 0.0) -> Tensor:
        """The present temperature, a scalar.

        Args:
            strength: of the gradient's reversal, from 0 (no gradient) to 1.
        """
        t: Tensor = ReverseGradient.apply(self.t, strength)
        return self.start + self.span * t.sigmoid()

    def strength(self, progress: float) -> float:
        """The strength of the gradient's reversal, from 0 to 1, at this share of training."""
        return factor(1 - cosine(at_most(self.epoch(progress) / self.decay, 1.0)))

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``{"kl": ...}``; see :meth:`LogitMethod.terms`."""
        temperature = self.temperature(self.strength(progress)).to(student.dtype)
        return {"kl": self.weight * kd_loss(student, teacher, temperature)}
