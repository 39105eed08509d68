"""Probabilistic knowledge transfer (PKT)."""

import torch
from torch import Tensor

from mcld.methods._base import Outputs, Terms
from mcld.methods._features import POOLED, FeatureMethod, pooled_pair
from mcld.options import Positive
from mcld.registry import register_method
from mcld.rows import no_autocast, unit_rows

EPS = 1e-7  # of the published code: keeps the logarithm of a similarity of 0 finite


def neighbours(features: Tensor) -> Tensor:
    """The probability (B, B) with which an image takes another for its neighbour: (cosine + 1) / 2, with row sums 1."""
    unit = unit_rows(features, center=False)
    similarity = (unit @ unit.T + 1).clamp(min=0) / 2
    return similarity / similarity.sum(dim=1, keepdim=True)


@register_method("pkt")
class PKT(FeatureMethod):
    """Give the images the same neighbours as the teacher, as probabilities (Passalis and Tefas 2018).

    The term is ``neighbours``: the weight times the mean over all pairs of p_T · log(p_T / p_S), where p are the
    cosines of the pooled features, moved to [0, 1], as shares of their row (arXiv 1803.10837, with the
    cosine kernel). A small constant (1e-7) is added within the logarithm, as in the published code.

    Args:
        weight: > 0.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> from mcld.methods import Outputs
        >>> student = Outputs(torch.zeros(2, 2), torch.eye(2))  # shares 2/3 and 1/3
        >>> teacher = Outputs(torch.zeros(2, 2), torch.ones(2, 3))  # shares 1/2 and 1/2
        >>> # (log(3/4) + log(3/2)) / 2 / 2
        >>> round(create_method("pkt", weight=1)(student, teacher, torch.tensor([0, 1]))["neighbours"].item(), 4)
        0.0294
    """

    title = "keep the images' neighbours, as probabilities from cosines"
    paper = "Passalis, Tefas, ECCV 2018"
    year = 2018
    family = "relations"
    needs = POOLED

    weight: Positive = 30000.0

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"neighbours": ...}``."""
        s, t = pooled_pair(student, teacher)
        with no_autocast(s):
            p, q = neighbours(t), neighbours(s)
            return {"neighbours": self.weight * (p * (torch.log(p + EPS) - torch.log(q + EPS))).mean()}
