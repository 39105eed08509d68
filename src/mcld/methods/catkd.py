"""Class attention transfer (CAT-KD)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.errors import InputError
from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import FeatureMethod, check_averages, other_maps, paired_shapes
from mcld.options import Positive, Rule
from mcld.registry import register_method
from mcld.rows import at_least_float32, no_autocast, unit_rows


def class_attention(maps: Tensor, weight: Tensor, side: int, normalize: bool = True) -> Tensor:
    """Where each class is seen, over side × side places: (B, C, side²).

    Args:
        maps: (B, D, h, w), of the last stage.
        weight: (C, D), of the classifier.
        side: of the grid.
        normalize: whether to make a unit vector for each image and class.
    """
    # Averaging commutes with the classifier, and the coarse grid is the cheaper place to apply it.
    coarse, weight = at_least_float32(F.adaptive_avg_pool2d(maps, side).flatten(2), weight)
    scores = weight @ coarse
    return unit_rows(scores.flatten(0, 1), center=False).view_as(scores) if normalize else scores


@register_method("catkd")
class CATKD(FeatureMethod):
    """See each class at the places where the teacher sees it (Guo et al. 2023).

    The term is ``attention``: the weight times the mean of (a(S) − a(T))², where a are the class activation maps, the
    classifier applied (without its bias) at each place of the last maps, averaged to a coarse grid, as a unit vector
    for each image and class (arXiv 2304.12777). It takes networks whose classifier reads the average of the last maps;
    where no stage ends with these (wide ResNets and ShuffleNetV2 of the zoo: ``relu``; MobileNetV2: ``conv2``),
    ``student.maps`` and ``teacher.maps`` name them.

    The authors normalise for pairs of unlike networks and leave the maps as they are for like ones, with another weight
    for every pair; the presets are those of their configuration files. The default weight is that of their file for
    transferring nothing but attention, which normalises, too.

    Args:
        weight: > 0; 0.5 to 600 as published.
        side: of the coarse grid, at least 2; 2 or 4 as published.
        normalize: true or false; compare unit vectors, not the maps themselves.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld.methods.catkd import class_attention
        >>> maps = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]])
        >>> class_attention(maps, weight=torch.tensor([[1.0], [2.0]]), side=2)
        tensor([[[0.6000, 0.0000, 0.0000, 0.8000],
                 [0.6000, 0.0000, 0.0000, 0.8000]]])
    """

    title = "see each class where the teacher sees it"
    paper = "Guo, Yan, Li, Lin, CVPR 2023"
    year = 2023
    family = "features"
    needs = frozenset({"logits", "maps", "classifier", "pooled"})
    requires_global_batch = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "resnet56-resnet20": {"weight": 0.7, "normalize": False},
        "resnet110-resnet32": {"weight": 1.8, "normalize": False},
        "resnet32x4-resnet8x4": {"weight": 15.0, "normalize": False},
        "wrn_40_2-wrn_16_2": {"weight": 12.0, "normalize": False},
        "wrn_40_2-wrn_40_1": {"weight": 1.5, "normalize": False},
        "vgg13-vgg8": {"weight": 4.5, "normalize": False},
        "vgg13-MobileNetV2": {"weight": 15.0},
        "ResNet50-MobileNetV2": {"weight": 40.0},
        "resnet32x4-ShuffleV1": {"weight": 600.0, "side": 4},
        "resnet32x4-ShuffleV2": {"weight": 600.0, "side": 4},
        "wrn_40_2-ShuffleV1": {"weight": 80.0, "side": 4},
        "imagenet-resnet34-resnet18": {"weight": 0.5, "side": 4, "normalize": False},
        "imagenet-resnet50-MobileNetV1": {"weight": 10.0},
    }

    weight: Positive = 50.0
    side: Annotated[int, Rule(lambda x: x >= 2, "an integer of at least 2")] = 2
    normalize: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._seen = False

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Check that the classifiers fit the last maps; see :meth:`Method.prepare`."""
        paired_shapes(self, student, teacher)
        for role, shapes in (("student", student), ("teacher", teacher)):
            last = shapes.maps[-1]
            if last[0] != shapes.pooled or min(last[1:]) < self.side:
                raise InputError(
                    f"student maps end with {student.maps[-1:]} and teacher maps with {teacher.maps[-1:]}; catkd "
                    f"expects ({shapes.pooled}, h, w) of the {role}, as its classifier takes, with sides of at least "
                    f"{self.side}; {other_maps(role)}"
                )

    def check_networks(self, student: Outputs, teacher: Outputs) -> None:
        """Check that the classifiers read the average of the last maps; see :meth:`Method.check_networks`."""
        check_averages(self, student, teacher)

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"attention": ...}``."""
        assert student.classifier is not None
        assert teacher.classifier is not None
        if not self._seen and not torch.compiler.is_compiling():
            check_averages(self, student, teacher)
            self._seen = True
        s, t = student.maps[-1], teacher.maps[-1]
        with no_autocast(s):
            ours = class_attention(s, student.classifier[0], self.side, self.normalize)
            theirs = class_attention(t, teacher.classifier[0], self.side, self.normalize)
            return {"attention": self.weight * (ours - theirs).square().mean()}
