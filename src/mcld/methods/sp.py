"""Similarity-preserving distillation (SP)."""

from torch import Tensor

from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import MAPS, FeatureMethod, paired_shapes
from mcld.options import Positive
from mcld.registry import register_method
from mcld.rows import no_autocast, unit_rows


def similarity_rows(maps: Tensor) -> Tensor:
    """Products of every two images' maps (B, c, h, w): (B, B), each row with length 1."""
    rows = maps.flatten(1)
    return unit_rows(rows @ rows.T, center=False)


@register_method("sp")
class SP(FeatureMethod):
    """Images that are alike for the teacher shall be alike for the student (Tung and Mori 2019).

    The term is ``similarity``: the weight times ‖G_S − G_T‖² / B², where G are the products of every two images' maps
    of the last stage, each row with length 1 (arXiv 1907.09682, eqs. 1 to 4). The shapes of the maps may be any.

    Args:
        weight: > 0.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> from mcld.methods import Outputs
        >>> student = Outputs(torch.zeros(2, 2), maps=(torch.eye(2).view(2, 2, 1, 1),))
        >>> teacher = Outputs(torch.zeros(2, 2), maps=(torch.ones(2, 1, 1, 1),))
        >>> # rows (1, 0) and (0, 1) against (0.71, 0.71): 4 · (2 − √2) / 4
        >>> round(create_method("sp", weight=2)(student, teacher, torch.tensor([0, 1]))["similarity"].item(), 4)
        0.5858
    """

    title = "keep which images are alike, by the maps of the last stage"
    paper = "Tung, Mori, ICCV 2019"
    year = 2019
    family = "relations"
    needs = MAPS

    weight: Positive = 3000.0

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Check that there are maps; see :meth:`Method.prepare`."""
        paired_shapes(self, student, teacher, grids=False)

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"similarity": ...}``."""
        s, t = student.maps[-1], teacher.maps[-1]
        with no_autocast(s):
            return {"similarity": self.weight * (similarity_rows(s) - similarity_rows(t)).square().mean()}
