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


def convolutions(*channels: int, kind: type[nn.Conv2d | nn.ConvTranspose2d], norm: bool) -> nn.Sequential:
    """3×3 convolutions with LeakyReLU (slope 0.1) from each number of channels to the next.

    Args:
        channels: one number more than there are convolutions.
        kind: of convolution, plain or transposed.
        norm: whether there is batch normalisation before each LeakyReLU.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(channels):
        layers.append(kind(inputs, outputs, 3, padding=1))
        layers += [nn.BatchNorm2d(outputs)] if norm else []
        layers.append(nn.LeakyReLU(0.1))
    return nn.Sequential(*layers)


@register_method("ft")
class FT(FeatureMethod):
    """Match factors: a paraphrase of the teacher's maps and a translation of the student's (Kim et al. 2018).

    The terms, on the last stage: ``factor`` is the weight times the mean of |F_S / ‖F_S‖ − F_T / ‖F_T‖| over all
    elements, with each image's factor as one vector; ``paraphrase`` is the mean squared error with which the teacher's
    factor, rate · c channels, gives its maps back (arXiv 1802.04977, section 3, with p = 1). As in the field's code the
    translator has batch normalisation and the paraphraser has none. The paper trains the paraphraser before the
    student (the field for 30 epochs); here it is trained along, since a run has one loop, and the student's term does
    not move it.

    ``as_published`` compares what the field's code does, whose weight is the default: the mean of the factor's squares
    over the channels, as one vector of places, in place of the factor itself.

    Args:
        weight: > 0.
        rate: channels of the factor as a share of the teacher's, in (0, 1].
        as_published: true or false; compare the mean of the squares over the channels.

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
    keeps = True
    family = "features"
    needs = MAPS
    requires_global_batch = True  # by the batch normalisation of what it learns
    presets = {"published": {"as_published": True}}  # noqa: RUF012 - declared as a ClassVar in Method

    weight: Positive = 200.0
    rate: Annotated[float, Rule(lambda x: 0 < x <= 1, "a share of the teacher's channels, above 0 and at most 1")] = 0.5
    as_published: bool = False

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
        self.paraphraser = convolutions(t, t, k, k, kind=nn.Conv2d, norm=False)
        self.back = convolutions(k, k, t, t, kind=nn.ConvTranspose2d, norm=False)
        self.translator = convolutions(s, s, k, k, kind=nn.Conv2d, norm=True)

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"factor": ..., "paraphrase": ...}``."""
        self.need_preparation(self.translator)
        assert self.paraphraser is not None
        assert self.back is not None
        assert self.translator is not None
        t = teacher.maps[-1]
        factor = self.paraphraser(t)
        pair = on_common_grid(self.translator(student.maps[-1]), factor.detach())
        if self.as_published:
            pair = pair[0].square().mean(dim=1), pair[1].square().mean(dim=1)
        ours, theirs = (unit_rows(f.flatten(1), center=False) for f in pair)
        again, t = at_least_float32(self.back(factor), t)
        return {"factor": self.weight * (ours - theirs).abs().mean(), "paraphrase": F.mse_loss(again, t)}
