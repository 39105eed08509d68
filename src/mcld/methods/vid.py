"""Variational information distillation (VID)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import MAPS, FeatureMethod, on_common_grid, paired, paired_shapes
from mcld.options import Positive
from mcld.registry import register_method
from mcld.rows import at_least_float32

EPS = 1e-5  # least variance
FIRST_VARIANCE = 5.0


class Gaussian(nn.Module):
    """A Gaussian of the teacher's map given the student's, with a variance for each channel.

    Args:
        student: channels.
        teacher: channels.
    """

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(student, teacher, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher, teacher, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher, teacher, 1, bias=False),
        )
        self.raw_variance = nn.Parameter(torch.full((teacher,), math.log(math.expm1(FIRST_VARIANCE - EPS))))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The mean of −log p(teacher | student) over all elements, in nats, without the constant log(2π) / 2."""
        mean, t = at_least_float32(self.mean(student), teacher)
        variance = (F.softplus(self.raw_variance) + EPS).view(-1, 1, 1)
        return ((mean - t).square() / variance + variance.log()).mean() / 2


@register_method("vid")
class VID(FeatureMethod):
    """Keep as much information about the teacher's maps as a Gaussian can read off the student's (Ahn et al. 2019).

    The term is ``information``: the weight times the sum over the matched stages of the mean over all elements of
    (μ(S) − T)² / (2 σ²) + log σ, where μ is three 1×1 convolutions and σ² a learnt variance per channel that starts
    from 5 (arXiv 1904.05835, section 2). The finer grid is averaged down to the coarser. It can be negative.

    Args:
        weight: > 0.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> from mcld.methods import Outputs, Shapes
        >>> method = create_method("vid")
        >>> method.prepare(Shapes(2, maps=((1, 1, 1),)), Shapes(2, maps=((1, 1, 1),)), images=4, epochs=1)
        >>> same = Outputs(torch.zeros(1, 2), maps=(torch.zeros(1, 1, 1, 1),))
        >>> round(method(same, same, torch.tensor([0]))["information"].item(), 4)  # log(5) / 2
        0.8047
    """

    title = "keep the information about the teacher's maps, as a Gaussian bound"
    paper = "Ahn et al., CVPR 2019"
    year = 2019
    keeps = True
    family = "features"
    needs = MAPS
    requires_global_batch = False

    weight: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gaussians: nn.ModuleList | None = None

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Make a Gaussian for each matched stage; see :meth:`Method.prepare`."""
        self.gaussians = nn.ModuleList(Gaussian(s[0], t[0]) for s, t in paired_shapes(self, student, teacher))

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"information": ...}``."""
        self.need_preparation(self.gaussians)
        assert self.gaussians is not None
        pairs = paired(student.maps, teacher.maps)
        losses = [g(*on_common_grid(s, t)) for g, (s, t) in zip(self.gaussians, pairs, strict=True)]
        return {"information": self.weight * torch.stack(losses).sum()}
