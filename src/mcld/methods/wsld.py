"""Weighted soft label distillation (WSLD)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod
from mcld.options import Positive, Temperature
from mcld.registry import register_method


@register_method("wsld")
class WSLD(LogitMethod):
    """Soft labels, with less weight where the student is already better than its teacher (Zhou et al. 2021).

    The term is ``soft``: the weight times the mean over images of w · T² · (−Σ t · log s), with the probabilities t and
    s of teacher and student at temperature T, and w = 1 − exp(−L_s / L_t), where L_s and L_t are both networks'
    cross-entropies with the label at temperature 1 (arXiv 2102.00650, eq. 12). No gradient flows through w. Being a
    cross-entropy the term is not 0 at a student that equals the teacher. As in the released code 1e-7 is added to L_t,
    so an image on which both are certain gets w = 0.

    Args:
        temperature: T > 0.
        weight: > 0.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> student = torch.zeros(1, 2)  # L_s = log 2 = 0.6931, and so is -Σ t log s
        >>> teacher = torch.tensor([[3.0, 1.0]]).log()  # L_t = log(4/3) = 0.2877; w = 1 - exp(-2.4094) = 0.9101
        >>> terms = create_method("wsld", temperature=1, weight=1)(student, teacher, torch.tensor([0]))
        >>> round(terms["soft"].item(), 4)
        0.6309
    """

    title = "soft labels, less where the student already beats the teacher"
    paper = "Zhou, Song, Chen, Zhou, Wang, Yuan, Zhang, ICLR 2021"
    year = 2021
    requires_global_batch = False

    temperature: Temperature = 2.0
    weight: Positive = 2.5

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``{"soft": ...}``; see :meth:`LogitMethod.terms`."""
        hard_s, hard_t = (F.cross_entropy(x.detach(), labels, reduction="none") for x in (student, teacher))
        w = -torch.expm1(-hard_s / (hard_t + 1e-7))
        log_s, t = F.log_softmax(student / self.temperature, dim=1), (teacher / self.temperature).softmax(dim=1)
        return {"soft": self.weight * self.temperature**2 * (w * -(t * log_s).sum(dim=1)).mean()}
