"""Hints: match the maps of a middle stage (FitNet)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mcld.errors import InputError
from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import MAPS, FeatureMethod, on_common_grid, paired, paired_shapes
from mcld.options import Count, Positive
from mcld.registry import register_method
from mcld.rows import at_least_float32


def regressor(student: tuple[int, int, int], teacher: tuple[int, int, int]) -> nn.Sequential:
    """From the student's (c, h, w) to the teacher's: a convolution, batch normalisation and ReLU.

    As in the field's codes: 1×1 where the grids are the same, 3×3 with stride 2 to a grid of half the side, transposed
    4×4 with stride 2 to one of twice the side. Between other grids it is 1×1 and leaves the grid as it is. There is no
    bias, which batch normalisation would take away.
    """
    (s, *ours), (t, *theirs) = student, teacher
    convolution: nn.Module = nn.Conv2d(s, t, 1, bias=False)
    if ours == [2 * side for side in theirs]:
        convolution = nn.Conv2d(s, t, 3, stride=2, padding=1, bias=False)
    elif [2 * side for side in ours] == theirs:
        convolution = nn.ConvTranspose2d(s, t, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(t), nn.ReLU())


@register_method("fitnet")
class FitNet(FeatureMethod):
    """Match the teacher's maps of one stage by a learnt projection of the student's (Romero et al. 2015).

    The term is ``hint``: the weight times the mean of (r(S) − T)² over all elements, where r is a convolution to the
    teacher's channels and grid with batch normalisation and ReLU (:func:`regressor`; arXiv 1412.6550, eq. 3). Where
    grids are neither equal nor one of half the side of the other, the finer is averaged down to the coarser. Trained
    along with the student from the beginning, as in the field's tables, not before it.

    Args:
        weight: > 0.
        stage: which of the matched stages, from 1; the last of both networks are matched, and so on backwards.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> from mcld.methods import Outputs, Shapes
        >>> method = create_method("fitnet", weight=1, stage=1)
        >>> method.prepare(Shapes(2, maps=((1, 1, 2),)), Shapes(2, maps=((1, 1, 2),)), images=4, epochs=1)
        >>> _ = torch.nn.init.ones_(method.eval().regressor[0].weight)
        >>> student = Outputs(torch.zeros(1, 2), maps=(torch.tensor([[[[1.0, 2.0]]]]),))
        >>> teacher = Outputs(torch.zeros(1, 2), maps=(torch.tensor([[[[1.0, 0.0]]]]),))
        >>> round(method(student, teacher, torch.tensor([0]))["hint"].item(), 3)  # (0² + 2²) / 2
        2.0
    """

    title = "match the maps of a middle stage, through a learnt projection"
    paper = "Romero et al., ICLR 2015"
    year = 2015
    keeps = True
    family = "features"
    needs = MAPS
    requires_global_batch = True  # by the batch normalisation of what it learns

    weight: Positive = 100.0
    stage: Count = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.regressor: nn.Module | None = None

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Make the projection; see :meth:`Method.prepare`."""
        pairs = paired_shapes(self, student, teacher)
        if self.stage not in range(1, len(pairs) + 1):
            raise InputError(
                f"stage is {self.stage}; expected 1 to {len(pairs)}: student maps are {student.maps} and teacher maps "
                f"{teacher.maps}"
            )
        self.regressor = regressor(*pairs[self.stage - 1])

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"hint": ...}``."""
        self.need_preparation(self.regressor)
        assert self.regressor is not None
        s, t = paired(student.maps, teacher.maps)[self.stage - 1]
        projected, t = at_least_float32(*on_common_grid(self.regressor(s), t))
        return {"hint": self.weight * F.mse_loss(projected, t)}
