"""Correlation congruence (CC)."""

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import POOLED, FeatureMethod, pooled_pair
from mcld.options import Positive, Rule
from mcld.registry import register_method
from mcld.rows import no_autocast, unit_rows

EMBEDDING = 128  # numbers in what the published code compares


def neighbours(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over neighbouring rows of Σ |s_i − t_i| · |s_{i+1} − t_{i+1}|, for (B, d); 0 for one row."""
    differences = (student - teacher).abs()
    if len(differences) < 2:
        return differences.sum() * 0
    return (differences[:-1] * differences[1:]).sum(dim=1).mean()


@register_method("cc")
class CC(FeatureMethod):
    """Keep how the images of a batch correlate (Peng et al. 2019).

    The term is ``correlation``: the weight times ‖K_S − K_T‖² / B², where K are the Gaussian kernels exp(−γ‖x − y‖²) of
    unit pooled features, as the series exp(−2γ) Σ_p (2γ)^p / p! · (x·y)^p up to an order (arXiv 1904.01802, section 3).
    Since the kernels of both networks are (B, B), no projection is needed. Differences of kernels are small, hence the
    large weight: with it the gradient is 3 times that of cross-entropy for an untrained resnet20 under resnet56, and
    0.1 of it for a trained one.

    ``as_published`` computes what the field's code does, which its authors shared: learnt linear maps take the features
    of both networks to 128 numbers, and the term is the mean of :func:`neighbours`. It depends on the order of the
    images in the batch. Its published weight is 0.02 (the preset ``published``).

    Args:
        weight: > 0.
        gamma: γ > 0; not with ``as_published``.
        order: of the series, 1 to 100; not with ``as_published``.
        as_published: true or false; compare embeddings of neighbouring images, not kernels.

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
    presets = {"published": {"as_published": True, "weight": 0.02}}  # noqa: RUF012 - declared as a ClassVar in Method

    weight: Positive = 100.0
    gamma: Positive = 0.4
    order: Annotated[int, Rule(lambda x: 1 <= x <= 100, "an integer from 1 to 100")] = 2
    as_published: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.embeddings: nn.ModuleList | None = None

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Make the linear maps of the published code; see :meth:`Method.prepare`."""
        if self.as_published:
            self.embeddings = nn.ModuleList(nn.Linear(shapes.pooled, EMBEDDING) for shapes in (student, teacher))

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
            if self.as_published:
                self.need_preparation(self.embeddings)
                assert self.embeddings is not None
                ours, theirs = (embed(features) for embed, features in zip(self.embeddings, (s, t), strict=True))
                return {"correlation": self.weight * neighbours(ours, theirs)}
            return {"correlation": self.weight * (self.kernel(s) - self.kernel(t)).square().mean()}
