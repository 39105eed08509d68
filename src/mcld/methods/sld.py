"""Swapped logit distillation (SLD)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod, Pair
from mcld.methods.kd import kd_total
from mcld.options import NonNegative, Positive, Share
from mcld.progress import factor, reached
from mcld.registry import register_method

TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def swap(logits: Tensor, labels: Tensor) -> Tensor:
    """Exchange each row's largest logit with the label's, so that the label comes first.

    Args:
        logits: (B, C).
        labels: (B,) int64.

    Example:
        >>> import torch
        >>> from mcld.methods.sld import swap
        >>> swap(torch.tensor([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0]]), torch.tensor([0, 1]))
        tensor([[5., 1., 3.],
                [1., 5., 3.]])
    """
    label, top = labels.unsqueeze(1), logits.argmax(dim=1, keepdim=True)
    return logits.scatter(1, label, logits.gather(1, top)).scatter(1, top, logits.gather(1, label))


@register_method("sld")
class SLD(LogitMethod):
    """KD with wrong predictions put right, those of the teacher and the student's own (Limantoro et al. 2025).

    Where a network's largest logit is not the label's, the two are exchanged (:func:`swap`). The terms are sums of KD
    (:func:`mcld.methods.kd.kd_loss`) over the temperatures 1 to 6 and both views, each times the weight: ``teacher``
    towards the exchanged logits of the teacher, ``student`` towards the student's own, exchanged, a second teacher that
    comes in late: it is 0 until ``start``. With two views there is ``ce_strong``, cross-entropy of the second one,
    which both views get in the authors' recipe; the training loop adds that of the first.

    This follows the authors' code (arXiv 2504.20108). Its schedule, "after epoch 150" of 240, is a share of training
    here. The second view comes in ``Outputs.other`` of both networks; without it there is one view.

    ``as_published`` lets the gradient flow through the student's exchanged logits too, as that code does. By default
    they are a constant, like any teacher. And as there the two views go through the student one after the other, each
    normalised by its own batch, and the second is FixMatch's strong view: two operations at random strengths, and a
    square.

    Args:
        weight: of the first two terms, > 0.
        start: share of training, from 0 to 1, after which the student teaches itself.
        strong_ce_weight: of ``ce_strong``, at least 0; the loop's own cross-entropy has the same by default.
        as_published: true or false; let the gradient flow through the second teacher.
        standardize: true or false; give each row of logits mean 0 and standard deviation 1 first, for the first two
            terms.

    Raises:
        InputError: for an option out of range, or a second view of one network only.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[0.0, 1000.0]])  # the teacher is certain, and wrong
        >>> terms = create_method("sld", weight=1)(student, teacher, torch.tensor([0]), progress=1)
        >>> round(terms["teacher"].item(), 4)  # put right; (1² + ... + 6²) log 2
        63.0764
        >>> terms["student"].item()  # nothing to exchange
        0.0
    """

    title = "KD with wrong predictions put right by exchanging logits"
    paper = "Limantoro, Lin, Wang, Tsai, Shuai, Huang, Cheng, Multimedia Systems 2025"
    year = 2025
    requires_global_batch = False
    task_terms = frozenset({"ce_strong"})
    views = 2
    second_policy = "rand"
    ce_weight = 0.1
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "published": {"as_published": True},
        "imagenet": {"weight": 0.5, "strong_ce_weight": 0.5},
    }
    preset_ce_weights = {"imagenet": 0.5}  # noqa: RUF012 - declared as a ClassVar in Method

    weight: Positive = 0.9
    start: Share = 0.625
    strong_ce_weight: NonNegative = 0.1
    as_published: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.separate_views = self.as_published
        if self.as_published:
            self.second_policy = "fixmatch"

    @property
    def ramps(self) -> bool:
        """Where the student does not teach itself from the beginning."""
        return self.start > 0

    def view_terms(self, pairs: Sequence[Pair], labels: Tensor, progress: float) -> Terms:
        """Return ``teacher``, ``student`` and, with two views, ``ce_strong``."""
        towards_teacher, towards_itself = [], []
        for s, t in (self.ready(*pair) for pair in pairs):
            right, own = swap(t, labels), swap(s, labels)
            own = own if self.as_published else own.detach()
            towards_teacher.append(kd_total(s, right, TEMPERATURES))
            towards_itself.append(kd_total(s, own, TEMPERATURES))
        late = factor(reached(progress, self.start))
        terms = {
            "teacher": self.weight * torch.stack(towards_teacher).sum(),
            "student": self.weight * late * torch.stack(towards_itself).sum(),
        }
        if len(pairs) == 2:
            strong, _ = self.ready(*pairs[1], standardize=False)
            terms["ce_strong"] = self.strong_ce_weight * F.cross_entropy(strong, labels)
        return terms
