"""Scale decoupled distillation (SDD)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.errors import InputError
from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import check_averages, check_outputs, other_maps
from mcld.methods._per_image import PerImage, losses_of_images
from mcld.options import NonNegative, Rule
from mcld.registry import register_method
from mcld.rows import at_least_float32, no_autocast


def region_logits(maps: Tensor, weight: Tensor, bias: Tensor | None, grid: int) -> Tensor:
    """What the classifier says of the whole image and of its parts, (1 + 4 + … regions, B, C).

    The maps are averaged to 4 × 4 cells; the regions are the average of all, the 2 × 2 quarters and the cells
    themselves, as far as ``grid`` says, in this order.

    Args:
        maps: (B, D, h, w), of which the classifier reads the average.
        weight: (C, D), of the classifier.
        bias: (C,), of the classifier.
        grid: the finest grid: 1, 2 or 4.
    """
    maps, weight = at_least_float32(maps, weight)
    cells = F.adaptive_avg_pool2d(maps, 4)
    scales = [F.adaptive_avg_pool2d(cells, side).flatten(2) for side in (1, 2, 4) if side <= grid]
    return F.linear(torch.cat(scales, dim=2).permute(2, 0, 1), weight, None if bias is None else bias.to(weight.dtype))


@register_method("sdd")
class SDD(PerImage):
    """A method on the logits of parts of the image, at several scales (Wei et al. 2024).

    Both classifiers are applied to the average of the last maps over regions of them (:func:`region_logits`), and
    another method compares what they say of each region: KD makes it SD-KD, DKD makes it SD-DKD, NKD SD-NKD. Its loss
    is averaged over all regions and images; a region on which the teacher is right where it is wrong on the whole
    image, or the other way round, counts ``complementary`` times (arXiv 2403.13512, section 3; the weight of 2 and the
    grids, 2 or 4, are those of the authors' code).

    It takes networks whose classifier reads the average of the last maps. Where that average is none of a network's
    stages, ``student.maps=[…]`` or ``teacher.maps=[…]`` names the module that gives the maps: ``[relu]`` for a wide
    residual network and ShuffleV2, ``[conv2]`` for MobileNetV2.

    Args:
        of: the name of the other method: one that treats each image by itself, on logits alone.
        options: of the other method; what is not named keeps its default.
        grid: the finest grid of regions: 1 (the image alone), 2 or 4.
        complementary: what a region that contradicts the whole image counts, at least 0.

    Raises:
        InputError: for an option out of range, or a method that cannot be wrapped.

    Example:
        >>> import torch
        >>> from mcld.methods.sdd import region_logits
        >>> maps = torch.zeros(1, 1, 4, 4)
        >>> maps[0, 0, 0, 0] = 16.0
        >>> region_logits(maps, weight=torch.tensor([[1.0]]), bias=None, grid=2).flatten()
        tensor([1., 4., 0., 0., 0.])
    """

    title = "a method on the logits of parts of the image, at several scales"
    paper = "Wei, Luo, Luo, CVPR 2024"
    year = 2024
    family = "logits"
    needs = frozenset({"logits", "maps", "classifier", "pooled"})
    ce_weight = 0.1
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "resnet32x4-resnet8x4": {"grid": 2},
        "dkd": {"of": "dkd"},
        "nkd": {"of": "nkd"},
    }
    preset_ce_weights = {"dkd": 1.0, "nkd": 1.0}  # noqa: RUF012 - declared as a ClassVar in Method

    grid: Annotated[int, Rule(lambda x: x in (1, 2, 4), "1, 2 or 4")] = 4
    complementary: NonNegative = 2.0

    def __post_init__(self) -> None:
        """Add what is looked at once."""
        super().__post_init__()
        self._seen = False

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Check that the classifiers fit the last maps; see :meth:`Method.prepare`."""
        super().prepare(student, teacher, images, epochs, labels)
        for role, shapes in (("student", student), ("teacher", teacher)):
            last = shapes.maps[-1] if shapes.maps else (0, 0, 0)
            if last[0] != shapes.pooled:
                raise InputError(
                    f"{role} maps end with {last}; sdd expects ({shapes.pooled}, h, w), as the {role}'s classifier "
                    f"takes; {other_maps(role)}"
                )

    def check_networks(self, student: Outputs, teacher: Outputs) -> None:
        """Check that the classifiers read the average of the last maps; see :meth:`Method.check_networks`."""
        check_averages(self, student, teacher)

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """Return the other method's terms, averaged over images and regions; see :meth:`Method.forward`."""
        progress = self.known_progress(progress)
        s, t = check_outputs(self, student, teacher, labels)
        if not self._seen and not torch.compiler.is_compiling():
            check_averages(self, s, t)
            self._seen = True
        with no_autocast(s.logits):
            ours, theirs = (_regions(outputs, self.grid) for outputs in (s, t))
            right = theirs.argmax(dim=2) == labels
            weights = torch.where(right == right[0], 1.0, self.complementary).flatten()
            many = labels.repeat(len(ours))
            losses = losses_of_images(self.inner, ours.flatten(0, 1), theirs.flatten(0, 1), many, progress)
            return {name: (loss * weights.to(loss.dtype)).mean() for name, loss in losses.items()}


def _regions(outputs: Outputs, grid: int) -> Tensor:
    assert outputs.classifier is not None
    return region_logits(outputs.maps[-1], *outputs.classifier, grid)
