"""Refined logit distillation (RLD)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms, Warmup
from mcld.methods._logits import LogitMethod, check_two_classes, kl_rows, others
from mcld.methods.dkd import IMAGENET
from mcld.options import Epochs, NonNegative, Temperature
from mcld.registry import register_method


def confidence_loss(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """KL between (the teacher's largest probability, the rest) and (the student's of the label, the rest), (B,).

    Args:
        student: logits (B, C), divided by the temperature, C ≥ 2.
        teacher: logits (B, C), divided by the temperature.
        labels: (B,) int64.
    """
    log_p, log_q = (
        _log_split(logits, classes) for logits, classes in ((teacher, teacher.argmax(dim=1)), (student, labels))
    )
    return kl_rows(log_q, log_p)


def _log_split(logits: Tensor, classes: Tensor) -> Tensor:
    """The logarithms of the probability of one class and of all others, (B, 2)."""
    parts = [logits.gather(1, classes.unsqueeze(1)).squeeze(1), others(logits, classes).logsumexp(dim=1)]
    return F.log_softmax(torch.stack(parts, dim=1), dim=1)


def correlation_loss(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """KL among the classes of which the teacher's logit is below that of the label, (B,); 0 where there is none.

    Args:
        student: logits (B, C), divided by the temperature.
        teacher: logits (B, C), divided by the temperature.
        labels: (B,) int64.
    """
    above = teacher >= teacher.gather(1, labels.unsqueeze(1))
    nothing = above.all(dim=1, keepdim=True)
    masked = above & ~nothing  # among nothing any classes serve, as their loss counts for nothing
    log_p, log_q = (F.log_softmax(x.masked_fill(masked, -torch.inf), dim=1) for x in (teacher, student))
    losses = (log_p.exp() * (log_p - log_q).masked_fill(masked, 0.0)).sum(dim=1)
    return losses.masked_fill(nothing.squeeze(1), 0.0)


@register_method("rld")
class RLD(Warmup, LogitMethod):
    """Let the label put the teacher right: its confidence for the true class, its ranking below that (Sun et al. 2024).

    The terms are ``confidence``, ramp · alpha · T² · :func:`confidence_loss`, in which the teacher's largest
    probability is what the student's true class shall have, whichever class the teacher took, and ``correlation``,
    ramp · beta · T² · :func:`correlation_loss`, over the classes that the teacher ranks below the true one: a class
    that it wrongly ranks above is left out (arXiv 2408.07703, "Knowledge Distillation with Refined Logits", sample
    confidence and masked correlation distillation). The ramp is as in ``dkd``: min(epoch / warmup, 1).

    The formulas, and all settings, are those of the authors' code, whose commands give both terms one temperature
    (``--same-t``). With ``standardize`` the ranking is that of the standardised logits, which is the same.

    Args:
        temperature: T > 0.
        alpha: weight of ``confidence``, at least 0.
        beta: weight of ``correlation``, at least 0; 0.5 to 8 as published.
        warmup: epochs until full strength, at least 0.

    Raises:
        InputError: for an option out of range, or fewer than two classes.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> student = torch.zeros(1, 3)
        >>> teacher = torch.tensor([[3.0, 2.0, 1.0]]).log()  # takes class 0; the label is class 1
        >>> terms = create_method("rld", temperature=1, beta=2, warmup=0)(student, teacher, torch.tensor([1]))
        >>> round(terms["confidence"].item(), 4)  # 1/2 log((1/2) / (1/3)) + 1/2 log((1/2) / (2/3))
        0.0589
        >>> terms["correlation"].item()  # only class 2 is below
        0.0
    """

    title = "the teacher's confidence for the true class, and its ranking below that"
    paper = "Sun, Chen, Lyu, Chen, Chen, Wang, ICCV 2025"
    year = 2024
    requires_global_batch = False
    target_terms = frozenset({"confidence"})
    presets = IMAGENET

    temperature: Temperature = 4.0
    alpha: NonNegative = 1.0
    beta: NonNegative = 8.0
    warmup: Epochs = 20.0

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``confidence`` and ``correlation``; see :meth:`LogitMethod.terms`."""
        check_two_classes(student)
        T = self.temperature
        scale = T**2 * self.warmed_up(progress, self.warmup)
        s, t = student / T, teacher / T
        return {
            "confidence": scale * self.alpha * confidence_loss(s, t, labels).mean(),
            "correlation": scale * self.beta * correlation_loss(s, t, labels).mean(),
        }
