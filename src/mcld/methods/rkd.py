"""Relational knowledge distillation (RKD)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Outputs, Terms
from mcld.methods._features import POOLED, FeatureMethod, pooled_pair
from mcld.options import NonNegative
from mcld.registry import register_method
from mcld.rows import no_autocast


def relations(features: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (B, B) over their mean, and the directions (B, B, D) from image i to image j.

    Equal rows have distance 0 and no direction, and no gradient flows through them.
    """
    differences = features.unsqueeze(0) - features.unsqueeze(1)
    # Scaled by a constant before squares are taken, so that they stay in range; both results are blind to scale.
    differences = differences / differences.detach().abs().amax().clamp(min=torch.finfo(features.dtype).tiny)
    squares = differences.square().sum(dim=2)
    apart = squares > 0
    lengths = torch.where(apart, squares, 1.0).sqrt()
    distances = lengths * apart
    mean = distances.sum() / apart.sum().clamp(min=1)
    directions = differences / lengths.unsqueeze(2) * apart.unsqueeze(2)
    return distances / torch.where(mean > 0, mean, 1.0), directions


@register_method("rkd")
class RKD(FeatureMethod):
    """Keep the distances between images and the angles at them (Park et al. 2019).

    The terms, on pooled features: ``distance`` is the mean over pairs of the Huber loss between both networks'
    distances, each over its mean; ``angle`` is the same over triples for the cosine of the angle (arXiv 1904.05068,
    section 3.2). Memory grows with the cube of the batch: B³ numbers.

    Args:
        distance: weight of the distances, at least 0.
        angle: weight of the angles, at least 0.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> from mcld.methods import Outputs
        >>> line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])  # distances 1, 1, 2 with mean 4/3
        >>> even = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])  # all distances 1
        >>> terms = create_method("rkd", distance=1, angle=1)(
        ...     Outputs(torch.zeros(3, 2), line), Outputs(torch.zeros(3, 2), even), torch.tensor([0, 1, 0])
        ... )
        >>> # departures 1/4, 1/4, 1/2, each twice among 9: (1/32 + 1/32 + 1/8) · 2 / 9
        >>> round(terms["distance"].item(), 4)
        0.0417
        >>> # cosines 1, −1, 1 against 1/2, each twice among 27: (1/8 + 1 + 1/8) · 2 / 27
        >>> round(terms["angle"].item(), 4)
        0.0926
    """

    title = "keep distances between images and the angles at them"
    paper = "Park, Kim, Lu, Cho, CVPR 2019"
    year = 2019
    family = "relations"
    needs = POOLED

    distance: NonNegative = 25.0
    angle: NonNegative = 50.0

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"distance": ..., "angle": ...}``."""
        s, t = pooled_pair(student, teacher)
        with no_autocast(s):
            s_distances, s_directions = relations(s)
            t_distances, t_directions = relations(t)
            s_angles, t_angles = (d @ d.transpose(1, 2) for d in (s_directions, t_directions))
            return {
                "distance": self.distance * F.smooth_l1_loss(s_distances, t_distances),
                "angle": self.angle * F.smooth_l1_loss(s_angles, t_angles),
            }
