"""Weighted transformed teacher matching (WTTM)."""

import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod
from mcld.methods.ttm import ttm_parts
from mcld.options import Positive, Temperature
from mcld.registry import register_method


def smoothness(teacher: Tensor, temperature: float) -> Tensor:
    """Σ_c p_c^(1/T) of the teacher's probabilities p for each image, (B,): 1 where it is certain, more where not.

    At most C^(1 − 1/T) for T ≥ 1, and exactly 1 at T = 1.

    Args:
        teacher: logits (B, C).
        temperature: T > 0.
    """
    return (F.log_softmax(teacher, dim=1) / temperature).logsumexp(dim=1).exp()


@register_method("wttm")
class WTTM(LogitMethod):
    """TTM with more weight on images whose teacher is smooth (Zheng and Yang 2024).

    The term is ``kl``: that of ``ttm``, with each image's KL multiplied by :func:`smoothness`, the sum of the teacher's
    probabilities to the power γ = 1 / T (arXiv 2402.11148, section 4). At T = 1 all these weights are 1: this is TTM.

    The default options (γ 0.2, weight 4) are those of an example in the authors' instructions, where CRD is added;
    they tune both for each pair.

    Args:
        temperature: T > 0; the paper's 1 / γ.
        weight: > 0; the paper's β.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> teacher = torch.tensor([[9.0, 1.0]]).log()  # smoothness √0.9 + √0.1 = 1.2649
        >>> terms = create_method("wttm", temperature=2, weight=1)(torch.zeros(1, 2), teacher, torch.tensor([0]))
        >>> round(terms["kl"].item(), 4)  # 1.2649 (log 2 - 0.5623)
        0.1655
    """

    title = "TTM with more weight where the teacher is smooth"
    paper = "Zheng, Yang, ICLR 2024"
    year = 2024
    requires_global_batch = False

    temperature: Temperature = 5.0
    weight: Positive = 4.0

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``{"kl": ...}``; see :meth:`LogitMethod.terms`."""
        weights = smoothness(teacher, self.temperature)
        return {"kl": self.weight * (weights * ttm_parts(student, teacher, self.temperature)).mean()}
