"""Neuron selectivity transfer (NST)."""

import torch
from torch import Tensor

from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import MAPS, FeatureMethod, on_common_grid, paired, paired_shapes
from mcld.options import Positive
from mcld.registry import register_method
from mcld.rows import no_autocast, unit_rows


def channel_rows(maps: Tensor) -> Tensor:
    """Each channel of each image as a unit vector over the places: (B, c, h·w)."""
    return unit_rows(maps.flatten(0, 1).flatten(1), center=False).view(*maps.shape[:2], -1)


def mean_square_product(x: Tensor, y: Tensor) -> Tensor:
    """The mean over pairs of rows of (x_i · y_j)², for each image: (B, n, d) and (B, m, d) to (B,).

    The sum over pairs is also the inner product of XᵀX and YᵀY; whichever of the two is smaller is formed.
    """
    (n, d), m = x.shape[1:], y.shape[1]
    if n * m <= d * d:
        return (x @ y.transpose(1, 2)).square().mean(dim=(1, 2))
    return ((x.transpose(1, 2) @ x) * (y.transpose(1, 2) @ y)).sum(dim=(1, 2)) / (n * m)


@register_method("nst")
class NST(FeatureMethod):
    """Make the channels respond to the same places, as distributions (Huang and Wang 2017).

    The term is ``selectivity``: the weight times the sum over the matched stages of the squared maximum mean
    discrepancy between the channels of the student and of the teacher, each a unit vector over the places, with the
    kernel (x·y)², averaged over the images (arXiv 1707.01219, section 3, polynomial kernel of degree 2). The number
    of channels may differ; the finer grid is averaged down.

    Args:
        weight: > 0.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> from mcld.methods import Outputs
        >>> student = Outputs(torch.zeros(1, 2), maps=(torch.tensor([[[[2.0, 0.0]]]]),))
        >>> teacher = Outputs(torch.zeros(1, 2), maps=(torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]]),))
        >>> # 1 within the student, 1/2 within the teacher, 1/2 between them: 1 + 1/2 − 2 · 1/2
        >>> create_method("nst", weight=2)(student, teacher, torch.tensor([0]))["selectivity"].item()
        1.0
    """

    title = "give the channels the same distribution over the places"
    paper = "Huang, Wang, arXiv 1707.01219, 2017"
    year = 2017
    family = "features"
    needs = MAPS
    requires_global_batch = False

    weight: Positive = 50.0

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Check that the stages match; see :meth:`Method.prepare`."""
        paired_shapes(self, student, teacher)

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"selectivity": ...}``."""
        losses = []
        for pair in paired(student.maps, teacher.maps):
            s, t = (channel_rows(maps) for maps in on_common_grid(*pair))
            with no_autocast(s):
                within = mean_square_product(s, s) + mean_square_product(t, t)
                losses.append((within - 2 * mean_square_product(s, t)).mean())
        return {"selectivity": self.weight * torch.stack(losses).sum()}
