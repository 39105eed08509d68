"""The overhaul of feature distillation (OFD)."""

from typing import Annotated

import torch
from torch import Tensor, nn

from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import MAPS, FeatureMethod, on_common_grid, paired, paired_shapes
from mcld.options import Positive, one_of
from mcld.registry import register_method
from mcld.rows import at_least_float32

MOMENTUM = 0.1


class Connector(nn.Module):
    """Brings a student's map to the teacher's channels, and knows the teacher's margin per channel.

    Args:
        student: channels.
        teacher: channels.
    """

    margin: Tensor
    batches: Tensor

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        projection = nn.Conv2d(student, teacher, 1, bias=False)
        nn.init.kaiming_normal_(projection.weight, mode="fan_out")  # as the authors do
        self.project = nn.Sequential(projection, nn.BatchNorm2d(teacher))
        self.register_buffer("margin", torch.zeros(teacher))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def watch(self, teacher: Tensor) -> None:
        """Move the margin towards the mean of the negative values of each channel."""
        negative = teacher.clamp(max=0)
        count = (negative < 0).sum(dim=(0, 2, 3)).clamp(min=1)
        mean = (negative.sum(dim=(0, 2, 3)) / count).to(self.margin.dtype)
        self.margin.lerp_(mean, torch.where(self.batches == 0, 1.0, MOMENTUM).to(self.margin.dtype))
        self.batches += 1


def partial_square(student: Tensor, teacher: Tensor) -> Tensor:
    """(s − t)², but 0 where the teacher is not positive and the student is not above it."""
    return (student - teacher).square() * ((student > teacher) | (teacher > 0))


@register_method("ofd")
class OFD(FeatureMethod):
    """Match the maps, except that a response the teacher does not have may be as low as it likes (Heo et al. 2019).

    The term is ``overhaul``: the weight times the sum over the matched stages of the mean over images of Σ d, with d =
    (r(S) − T)², but 0 where r(S) ≤ T ≤ 0; the earlier a stage, the less it counts (half of the next). T is the
    teacher's map, from below limited to a margin per channel, the mean of its negative values; r is a 1×1 convolution
    with batch normalisation (arXiv 1904.01866). As published, maps are those before the last activation of each stage:
    the zoo's are known, and those of most networks of timm and torchvision; of others the stages' outputs are read, and
    ``student.maps`` and ``teacher.maps`` name other modules. The finer grid is averaged down.

    The authors read the margins off the teacher's last batch normalisation, as the mean of the negative half of its
    normal distribution. Here they are a running mean of what is really negative, which holds for any teacher, and for
    residual blocks, too, where something is added after that normalisation; after a ReLU it is 0. And their teacher is
    in training mode, so that its maps depend on the other images of the batch and its statistics follow the student's
    data; here it is in evaluation mode, like every teacher, so that an image has one target.

    Args:
        weight: > 0; 1/1000 on CIFAR-100 and 1/10000 on ImageNet in the authors' code.
        preactivation: of which networks the maps before the activation are read: ``both``, ``teacher`` or ``none``.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld.methods.ofd import partial_square
        >>> partial_square(torch.tensor([-2.0, -0.5, 1.0, 1.0]), torch.tensor([-1.0, -1.0, -1.0, 3.0]))
        tensor([0.0000, 0.2500, 4.0000, 4.0000])
    """

    title = "match the maps where the teacher responds"
    paper = "Heo, Kim, Yun, Park, Kwak, Choi, ICCV 2019"
    year = 2019
    keeps = True
    family = "features"
    needs = MAPS
    requires_global_batch = True  # by the batch normalisation of what it learns
    presets = {"imagenet": {"weight": 0.0001}}  # noqa: RUF012 - declared as a ClassVar in Method

    weight: Positive = 0.001
    preactivation: Annotated[str, one_of("none", "teacher", "both")] = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.connectors: nn.ModuleList | None = None

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Make a connector for each matched stage; see :meth:`Method.prepare`."""
        self.connectors = nn.ModuleList(Connector(s[0], t[0]) for s, t in paired_shapes(self, student, teacher))

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"overhaul": ...}``."""
        self.need_preparation(self.connectors)
        assert self.connectors is not None
        losses = []
        pairs = paired(student.maps, teacher.maps)
        for i, (connector, pair) in enumerate(zip(self.connectors, pairs, strict=True)):
            assert isinstance(connector, Connector)
            s, t = on_common_grid(*pair)
            if self.training:
                connector.watch(t)
            projected, t = at_least_float32(connector.project(s), t)
            target = torch.maximum(t, connector.margin.to(t.dtype).view(-1, 1, 1))
            distance = partial_square(projected, target).sum(dim=(1, 2, 3)).mean()
            losses.append(distance / 2 ** (len(pairs) - 1 - i))
        return {"overhaul": self.weight * torch.stack(losses).sum()}
