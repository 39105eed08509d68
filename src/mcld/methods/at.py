"""Attention transfer (AT)."""

import torch
from torch import Tensor

from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import MAPS, FeatureMethod, on_common_grid, paired, paired_shapes
from mcld.options import Positive
from mcld.registry import register_method
from mcld.rows import unit_rows


def attention(maps: Tensor) -> Tensor:
    """Where a stage is active: (B, h·w) unit rows, from the mean of the squares over the channels of (B, c, h, w)."""
    return unit_rows(maps.square().mean(dim=1).flatten(1), center=False)


@register_method("at")
class AT(FeatureMethod):
    """Be active where the teacher is (Zagoruyko and Komodakis 2017).

    The term is ``attention``: the weight times the sum over the matched stages of the mean of (a(S) − a(T))², where a
    is the mean of the squares over the channels as a unit vector per image (arXiv 1612.03928, section 3.1, with p = 2;
    a mean in place of the sum, as in the field's tables). No channels need to match; the finer grid is averaged down.

    Args:
        weight: > 0.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> from mcld.methods import Outputs
        >>> student = Outputs(torch.zeros(1, 2), maps=(torch.tensor([[[[1.0, 0.0]]]]),))
        >>> teacher = Outputs(torch.zeros(1, 2), maps=(torch.tensor([[[[0.0, 5.0]]]]),))
        >>> create_method("at", weight=3)(student, teacher, torch.tensor([0]))["attention"].item()  # 3 · (1 + 1) / 2
        3.0
    """

    title = "be active at the places where the teacher is"
    paper = "Zagoruyko, Komodakis, ICLR 2017"
    year = 2016
    family = "features"
    needs = MAPS
    requires_global_batch = False

    weight: Positive = 1000.0

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Check that the stages match; see :meth:`Method.prepare`."""
        paired_shapes(self, student, teacher)

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"attention": ...}``."""
        losses = []
        for pair in paired(student.maps, teacher.maps):
            s, t = on_common_grid(*pair)
            losses.append((attention(s) - attention(t)).square().mean())
        return {"attention": self.weight * torch.stack(losses).sum()}
