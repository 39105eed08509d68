"""One-for-all knowledge distillation (OFA-KD)."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import FeatureMethod, check_outputs
from mcld.options import NonNegative, Positive, Temperature
from mcld.registry import register_method
from mcld.rows import at_least_float32, no_autocast


def enhanced_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, gamma: float, *, label: bool = True, power: float = 1.0
) -> Tensor:
    """Cross-entropy with the teacher's probabilities p, that of the label enhanced, averaged over the images.

    −(1 + p_y)^γ · log s_y − Σ_{c ≠ y} p_c · log s_c: at γ = 1 that is cross-entropy with the label, and with p.

    Args:
        student: logits (B, C), divided by the temperature.
        teacher: logits (B, C), divided by the temperature.
        labels: (B,) int64.
        gamma: γ > 0.
        label: whether cross-entropy with the label is in it; without it the first factor is (1 + p_y)^γ − 1.
        power: of the p_c.

    Example:
        >>> import torch
        >>> from mcld.methods.ofa import enhanced_loss
        >>> teacher = torch.tensor([[1.0, 1.0]])  # 1/2 each
        >>> round(enhanced_loss(torch.zeros(1, 2), teacher, torch.tensor([0]), gamma=2).item(), 4)  # (9/4 + 1/2) log 2
        1.9062
    """
    log_s, p, y = F.log_softmax(student, dim=1), teacher.softmax(dim=1), labels.unsqueeze(1)
    enhanced = (1 + p.gather(1, y)) ** gamma - (0 if label else 1)
    return -((p**power).scatter(1, y, enhanced) * log_s).sum(dim=1).mean()


def separable(inputs: int, outputs: int) -> nn.Sequential:
    """Two depthwise separable 3 × 3 convolutions; the first halves the resolution, the second changes the channels."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, 2, 1, groups=inputs, bias=False),
        nn.Conv2d(inputs, inputs, 1, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def branch(channels: int, left: int, width: int, classes: int) -> nn.Sequential:
    """From the maps of a stage to logits.

    Args:
        channels: of the maps.
        left: stages after this one: so often the resolution is halved and the channels double.
        width: channels before the classifier.
        classes: number of logits.
    """
    widths = [channels * 2**i for i in range(left)] + [width]
    layers: list[nn.Module] = [separable(a, b) for a, b in itertools.pairwise(widths)]
    if not left:
        layers = [nn.Conv2d(channels, width, 1)]
    made = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return made


@register_method("ofa")
class OFA(FeatureMethod):
    """The teacher's logits for every stage of the student, for networks of different families (Hao et al. 2023).

    Features of a convolutional network and a transformer have little in common; logits do. A branch on each of the
    student's stages turns its maps into logits, and each is compared with the teacher's logits by
    :func:`enhanced_loss`, as the student's own logits are. The terms are ``stages``, stages · the sum over them, and
    ``logits``, weight · the same loss of the student's own, without cross-entropy with the label, which the training
    loop adds (arXiv 2310.19444, L_OFA, as a note on the paper gives it). The branches are trained with the student and
    thrown away.

    ``as_published`` computes what the authors' code computes: the branches have no cross-entropy with the label, and
    the probabilities of the other classes are taken to the power gamma, too.

    The branches are the authors' for convolutional students: depthwise separable convolutions that halve the
    resolution, once for each stage that follows. For transformers they merge patches, add transformer blocks and read
    the class token; here their tokens are maps like any others, without the class token.

    Args:
        gamma: how much the label's probability is enhanced, > 0; 1 to 1.5 as published.
        temperature: T > 0.
        weight: of ``logits``, at least 0.
        stages: weight of ``stages``, at least 0.
        as_published: true or false; compute what the authors' code computes.

    Raises:
        InputError: for an option out of range.
    """

    title = "the teacher's logits for every stage of a student of another family"
    paper = "Hao, Guo, Han, Tang, Hu, Wang, Xu, NeurIPS 2023"
    year = 2023
    keeps = True
    needs = frozenset({"logits", "maps", "pooled"})
    requires_global_batch = True
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "published": {"as_published": True},
        "imagenet-deit_tiny-resnet18": {"as_published": True, "gamma": 1.5},
    }

    gamma: Positive = 1.0
    temperature: Temperature = 1.0
    weight: NonNegative = 1.0
    stages: NonNegative = 1.0
    as_published: bool = False

    def __post_init__(self) -> None:
        """Add what :meth:`prepare` makes."""
        super().__post_init__()
        self.branches: nn.ModuleList | None = None

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Make a branch for each of the student's stages; see :meth:`Method.prepare`."""
        width, n = max(student.pooled, teacher.pooled), len(student.maps)
        self.branches = nn.ModuleList(
            branch(maps[0], n - 1 - i, width, teacher.classes) for i, maps in enumerate(student.maps)
        )

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """Return ``logits`` and ``stages``; see :meth:`Method.forward`."""
        progress = self.known_progress(progress)
        self.need_preparation(self.branches)
        assert self.branches is not None
        s, t = check_outputs(self, student, teacher, labels)
        logits = [made(maps) for made, maps in zip(self.branches, s.maps, strict=True)]
        y = labels.to(torch.int64)
        with no_autocast(s.logits):
            own, theirs, *branches = at_least_float32(s.logits, t.logits, *logits)
            theirs = theirs / self.temperature

            power = self.gamma if self.as_published else 1.0
            # Of the student's own logits the training loop adds cross-entropy with the label.
            kept = (own, False), *((given, not self.as_published) for given in branches)
            losses = [
                enhanced_loss(given / self.temperature, theirs, y, self.gamma, label=label, power=power)
                for given, label in kept
            ]
            return {"logits": self.weight * losses[0], "stages": self.stages * torch.stack(losses[1:]).sum()}
