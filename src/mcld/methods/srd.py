"""A simple recipe: a linear projector, batch normalisation and a log-sum distance (SRD)."""

from typing import Annotated

import torch
from torch import Tensor, nn

from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import POOLED, FeatureMethod, pooled_pair
from mcld.options import Positive, Rule
from mcld.registry import register_method
from mcld.rows import at_least_float32

EPS = 1e-4  # of the variances, as in the authors' batch normalisation
LEAST = 1e-12  # added within the logarithm


def standardize_columns(features: Tensor) -> Tensor:
    """Each column of (B, D) with mean 0 and variance 1 over the batch."""
    centred = features - features.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + EPS).sqrt()


@register_method("srd")
class SRD(FeatureMethod):
    """Match pooled features by a linear projector under a log-sum distance (Miles and Mikolajczyk 2024).

    The term is ``distance``: the weight times the logarithm of the mean over all elements of |S P − T|^α, where P is a
    learnt linear map, and both sides are standardised over the batch without learnt scales (arXiv 2303.11098; a mean in
    place of the sum, which shifts the value by a constant). It can be negative.

    The authors' code for ImageNet has weight 2 and adds KD at temperature 1 with weight 1 and cross-entropy with
    weight 1: ``method=[srd,kd] method.srd.weight=2 method.kd.temperature=1 method.kd.weight=1``. We found no setting
    of theirs for CIFAR-100; the default weight is ours.

    Args:
        weight: > 0; 2 on ImageNet as published.
        alpha: α > 1; 4 as published.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld.methods.srd import standardize_columns
        >>> rows = standardize_columns(torch.tensor([[1.0], [3.0]]))
        >>> [round(x, 4) for x in rows.flatten().tolist()]
        [-1.0, 1.0]
    """

    title = "match pooled features by a linear projector and a log-sum"
    paper = "Miles, Mikolajczyk, AAAI 2024"
    year = 2023
    keeps = True
    family = "features"
    needs = POOLED
    presets = {"imagenet": {"weight": 2.0}}  # noqa: RUF012 - declared as a ClassVar in Method

    weight: Positive = 1.0
    alpha: Annotated[float, Rule(lambda x: 1 < x <= 100, "more than 1, up to 100")] = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.projector: nn.Module | None = None

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Make the projector; see :meth:`Method.prepare`."""
        self.projector = nn.Linear(student.pooled, teacher.pooled)

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"distance": ...}``."""
        self.need_preparation(self.projector)
        assert self.projector is not None
        s, t = pooled_pair(student, teacher)
        projected, t = at_least_float32(self.projector(s), t)
        difference = standardize_columns(projected) - standardize_columns(t)
        return {"distance": self.weight * torch.log(difference.abs().pow(self.alpha).mean() + LEAST)}
