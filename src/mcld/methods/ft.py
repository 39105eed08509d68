"""Factor transfer (FT)."""

import itertools
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from mcld.errors import InputError
from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import MAPS, FeatureMethod, on_common_grid, paired_shapes
from mcld.options import Positive, Rule
from mcld.registry import register_method
from mcld.rows import at_least_float32, unit_rows


def convolutions(*channels: int) -> nn.Sequential:
    """3×3 convolutions with batch normalisation and LeakyReLU (slope 0.1) from each number of channels to the next."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


@register_method("ft")
class FT(FeatureMethod):
    """Match factors: a paraphrase of the teacher's maps and a translation of the student's (Kim et al. 2018).

    The terms, on the last stage: ``factor`` is the weight times the mean of |F_S / ‖F_S‖ − F_T / ‖F_T‖| over all
    elements, with each image's factor as one vector; ``paraphrase`` is the mean squared error with which the teacher's
    factor, rate · c channels, gives its maps back (arXiv 1802.04977, section 3, with p = 1). The paper trains the
    paraphraser before the student; here it is trained along, and the student's term does not move it. The default
    weight is that of the field's tables, whose factor is the mean of the squares over the channels instead.

    Args:
        weight: > 0.
        rate: channels of the factor as a share of the teacher's, in (0, 1].

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld.rows import unit_rows
        >>> one, other = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]])  # two factors: (0.6, 0.8) and (1, 0)
        >>> round((unit_rows(one, center=False) - unit_rows(other, center=False)).abs().mean().item(), 4)
        0.6
    """

    title = "match a learnt paraphrase of the teacher's last maps"
    paper = "Kim, Park, Kwak, NeurIPS 2018"
    year = 2018
    family = "features"
    needs = MAPS
    requires_global_batch = True  # by the batch normalisation of what it learns

    weight: Positive = 200.0
    rate: Annotated[float, Rule(lambda x: 0 < x <= 1, "a share of the teacher's channels, above 0 and at most 1")] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.paraphraser: nn.Module | None = None
        self.back: nn.Module | None = None
        self.translator: nn.Module | None = None

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Make paraphraser and translator; see :meth:`Method.prepare`."""
        (s, *_), (t, *_) = paired_shapes(self, student, teacher)[-1]
        k = round(self.rate * t)
        if k < 1:
            raise InputError(f"rate is {self.rate}; expected at least {1 / t:.3g} for the teacher's {t} channels")
        self.paraphraser = convolutions(t, t, k, k)
        self.back = convolutions(k, k, t, t)
        self.translator = convolutions(s, s, k, k)

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"factor": ..., "paraphrase": ...}``."""
        self.need_preparation(self.translator)
        assert self.paraphraser is not None
        assert self.back is not None
        assert self.translator is not None
        s, t = on_common_grid(student.maps[-1], teacher.maps[-1])
        factor = self.paraphraser(t)
        ours, theirs = (unit_rows(f.flatten(1), center=False) for f in (self.translator(s), factor.detach()))
        again, t = at_least_float32(self.back(factor), t)
        return {"factor": self.weight * (ours - theirs).abs().mean(), "paraphrase": F.mse_loss(again, t)}
