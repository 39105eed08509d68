"""Correlation congruence (CC)."""

import math

import torch
from torch import Tensor

from mcld.methods._base import Outputs, Terms
from mcld.methods._features import POOLED, FeatureMethod, pooled_pair
from mcld.options import Count, Positive
from mcld.registry import register_method
from mcld.rows import no_autocast, unit_rows


@register_method("cc")
class CC(FeatureMethod):
    """Keep how the images of a batch correlate (Peng et al. 2019).

    The term is ``correlation``: the weight times ‖K_S − K_T‖² / B², where K are the Gaussian kernels exp(−γ‖x − y‖²) of
    unit pooled features, as the series exp(−2γ) Σ_p (2γ)^p / p! · (x·y)^p up to an order (arXiv 1904.01802, section 3).
    Since the kernels of both networks are (B, B), no projection is needed. Much code that goes by this name (also that
    of the field's tables, whose weight is the default here, though the scales differ) instead multiplies the
    differences of neighbouring rows of the batch, which depends on the order of the images; this is the paper's.

    Args:
        weight: > 0.
        gamma: γ > 0.
        order: of the series, at least 1.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> from mcld.methods import Outputs
        >>> student, teacher = (Outputs(torch.zeros(2, 2), rows) for rows in (torch.eye(2), torch.ones(2, 3)))
        >>> method = create_method("cc", weight=1, gamma=0.5, order=1)  # kernel exp(−1) (1 + x·y)
        >>> # off the diagonal 0.3679 against 0.7358, twice among 4
        >>> round(method(student, teacher, torch.tensor([0, 1]))["correlation"].item(), 4)
        0.0677
    """

    title = "keep the correlations between images, by a Gaussian kernel"
    paper = "Peng et al., ICCV 2019"
    year = 2019
    family = "relations"
    needs = POOLED

    weight: Positive = 0.02
    gamma: Positive = 0.4
    order: Count = 2

    def kernel(self, features: Tensor) -> Tensor:
        """The kernel (B, B) of features (B, D)."""
        unit = unit_rows(features, center=False)
        cosines = 2 * self.gamma * (unit @ unit.T)
        series = torch.ones_like(cosines)
        for p in range(self.order, 0, -1):  # Horner: 1 + x (1 + x/2 (1 + x/3 …))
            series = 1 + series * cosines / p
        return math.exp(-2 * self.gamma) * series

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"correlation": ...}``."""
        s, t = pooled_pair(student, teacher)
        with no_autocast(s):
            return {"correlation": self.weight * (self.kernel(s) - self.kernel(t)).square().mean()}
