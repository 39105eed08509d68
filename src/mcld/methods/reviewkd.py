"""Knowledge review (ReviewKD)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcld.methods._base import Outputs, Shapes, Terms, Warmup
from mcld.methods._features import FeatureMethod, paired, paired_shapes
from mcld.options import Count, Epochs, Positive, one_of
from mcld.progress import at_most, factor
from mcld.registry import register_method
from mcld.rows import at_least_float32

LEVELS = (4, 2, 1)  # sides of the coarser grids that are compared, too


class Fusion(nn.Module):
    """Joins a stage with what the deeper stages have gathered, by attention, and projects it to the teacher's channels.

    Args:
        student: channels of the stage.
        middle: channels at which stages are joined.
        teacher: channels of the teacher's stage.
        deepest: whether there is nothing deeper to join.
    """

    def __init__(self, student: int, middle: int, teacher: int, deepest: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(student, middle, 1, bias=False), nn.BatchNorm2d(middle))
        self.attend = None if deepest else nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid())
        self.project = nn.Sequential(nn.Conv2d(middle, teacher, 3, padding=1, bias=False), nn.BatchNorm2d(teacher))
        for convolution in (self.reduce[0], self.project[0]):  # as the authors do
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, stage: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the projection at the teacher's size, and what shallower stages join."""
        x = self.reduce(stage)
        if self.attend is not None and deeper is not None:
            deeper = F.interpolate(deeper, x.shape[2:], mode="nearest")
            gates = self.attend(torch.cat([x, deeper], dim=1))
            x = x * gates[:, :1] + deeper * gates[:, 1:]
        if x.shape[2:] != size:
            x = F.interpolate(x, size, mode="nearest")
        return self.project(x), x


def hierarchical_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference of maps (B, c, h, w) on their own grid and on 4×4, 2×2 and 1×1.

    The own grid has the weight 1, each coarser one half of that before it, over their sum; grids that are no coarser
    are left out.
    """
    losses, weights = [F.mse_loss(student, teacher)], [1.0]
    for side in LEVELS:
        if side < min(student.shape[2:]):
            s, t = (F.adaptive_avg_pool2d(maps, side) for maps in (student, teacher))
            losses.append(F.mse_loss(s, t))
            weights.append(weights[-1] / 2)
    scaled = [w * loss for w, loss in zip(weights, losses, strict=True)]
    return torch.stack(scaled).sum() / sum(weights)


@register_method("reviewkd")
class ReviewKD(Warmup, FeatureMethod):
    """Match each stage of the teacher by what the student's deeper stages know already (Chen et al. 2021).

    The term is ``review``: the weight times a ramp times the sum over the matched stages, with the pooled features as
    the last of them, of :func:`hierarchical_distance` between the teacher's maps and the student's fused ones (arXiv
    2104.09044). From deep to shallow, a stage and what was gathered before are joined by two gates per place. The ramp
    rises linearly over the first epochs. In the authors' code it steps once an epoch, from 0, and in mdistiller's from
    1 / warmup; between the two, a run of a single epoch learns something, too.

    As published the teacher's maps are those before the last activation of each stage; the student's, too, on ImageNet.
    The zoo's are known, and those of most networks of timm and torchvision; of others the stages' outputs are read, and
    ``teacher.maps`` names other modules. The presets have the weights of the authors' training scripts.

    The authors' script for CIFAR leaves the teacher in training mode, so that its maps depend on the other images of
    the batch; here, as in their script for ImageNet, it is in evaluation mode, like every teacher.

    Args:
        weight: > 0; 0.6 to 8 as published.
        warmup: epochs of the ramp, at least 0; 20 on CIFAR-100 and 0 on ImageNet as published.
        width: channels at which stages are fused, at most.
        preactivation: of which networks the maps before the activation are read: ``teacher``, ``both`` or ``none``.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld.methods.reviewkd import hierarchical_distance
        >>> student = torch.tensor([[[[2.0, 0.0], [0.0, 2.0]]]])
        >>> hierarchical_distance(student, torch.zeros(1, 1, 2, 2)).item()  # (2 + 1/2 · 1) / (1 + 1/2)
        1.6666666269302368
    """

    title = "match each stage by the student's deeper stages, fused by attention"
    paper = "Chen, Liu, Zhao, Jia, CVPR 2021"
    year = 2021
    keeps = True
    family = "features"
    needs = frozenset({"logits", "maps", "pooled"})
    requires_global_batch = True  # by the batch normalisation of what it learns
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "resnet56-resnet20": {"weight": 0.6},
        "resnet110-resnet32": {"weight": 1.0},
        "resnet32x4-resnet8x4": {"weight": 5.0},
        "wrn_40_2-wrn_16_2": {"weight": 5.0},
        "wrn_40_2-wrn_40_1": {"weight": 5.0},
        "wrn_40_2-ShuffleV1": {"weight": 5.0},
        "resnet32x4-ShuffleV1": {"weight": 5.0},
        "resnet32x4-ShuffleV2": {"weight": 8.0},
        "imagenet-resnet34-resnet18": {"weight": 1.0, "warmup": 0.0, "preactivation": "both"},
        "imagenet-resnet50-MobileNetV1": {"weight": 8.0, "warmup": 0.0, "width": 256, "preactivation": "both"},
    }

    weight: Positive = 1.0
    warmup: Epochs = 20.0
    width: Count = 512
    preactivation: Annotated[str, one_of("none", "teacher", "both")] = "teacher"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.fusions: nn.ModuleList | None = None

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Make a fusion for each matched stage; see :meth:`Method.prepare`."""
        pairs = [(s[0], t[0]) for s, t in paired_shapes(self, student, teacher)] + [(student.pooled, teacher.pooled)]
        middle = min(self.width, student.pooled)
        self.fusions = nn.ModuleList(
            Fusion(s, middle, t, deepest=i == len(pairs) - 1) for i, (s, t) in enumerate(pairs)
        )
        self.epochs = epochs

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"review": ...}``."""
        self.need_preparation(self.fusions)
        assert self.fusions is not None
        assert student.pooled is not None
        assert teacher.pooled is not None
        last = (student.pooled[:, :, None, None], teacher.pooled[:, :, None, None])
        pairs = [*paired(student.maps, teacher.maps), last]
        losses, deeper = [], None
        for fusion, (s, t) in zip(reversed(self.fusions), reversed(pairs), strict=True):
            projected, deeper = fusion(s, deeper, t.shape[2:])
            losses.append(hierarchical_distance(*at_least_float32(projected, t)))
        ramp = 1.0 if self.warmup == 0 else factor(at_most(progress * self.known_epochs() / self.warmup, 1.0))
        return {"review": self.weight * ramp * torch.stack(losses).sum()}
