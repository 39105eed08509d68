"""Local dense relational logit distillation (LDRLD)."""

import itertools
import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod, check_two_classes, kl_rows
from mcld.options import NonNegative, Rule, Temperature
from mcld.registry import register_method

DECAY = 0.05


def pair_weight(first: int, second: int) -> float:
    """The weight of a pair of classes by their ranks, counted from 1: the nearer and the higher, the more.

    2 / (1.5 + |difference|) · exp(−0.05 · sum): inverse rank weighting times exponential rank decay.
    """
    return 2 / (1.5 + abs(first - second)) * math.exp(-DECAY * (first + second))


@register_method("ldrld")
class LDRLD(LogitMethod):
    """KD on every pair of the student's highest classes, on all of them, and on the rest (Xu et al. 2025).

    Let the student's ``depth`` highest logits name the classes, in their order. The terms are

    - ``local``: alpha · T² / (pairs + 1) times the sum of KL(teacher ‖ student) between the two classes of each pair,
      weighted by the pair's ranks (:func:`pair_weight`), and of the KL among all of these classes, with weight 1;
    - ``rest``: beta · T² times the KL among all other classes.

    Probabilities are at temperature T, and normalised among the classes that take part (arXiv 2507.15911, "Local Dense
    Logit Relations for Enhanced Knowledge Distillation"). The paper's own equations were not available to us: this, its
    constants, and the setting for resnet32x4-resnet8x4, which is the default, are those of the authors' code. That one
    warms up the learning rate over 20 of 240 epochs, too (``schedule.warmup=0.0833``).

    Args:
        temperature: T > 0.
        alpha: weight of ``local``, at least 0.
        beta: weight of ``rest``, at least 0.
        depth: how many classes, at least 2; all, where there are no more.

    Raises:
        InputError: for an option out of range, or fewer than two classes.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> student, teacher = torch.tensor([[0.0, 0.0, -9.0, -9.0]]), torch.tensor([[3.0, 1.0, 1.0, 3.0]]).log()
        >>> terms = create_method("ldrld", temperature=1, alpha=1, beta=1, depth=2)(student, teacher, torch.tensor([0]))
        >>> round(terms["rest"].item(), 4)  # (1/4, 3/4) against (1/2, 1/2)
        0.1308
        >>> round(terms["local"].item(), 4)  # the same, (2 / 2.5 exp(-0.15) + 1) / 2 times
        0.1104
    """

    title = "KD on every pair of the student's highest classes, and on the rest"
    paper = "Xu, Liu, Liu, Wang, Xu, Cheng, ICCV 2025"
    year = 2025
    requires_global_batch = False

    temperature: Temperature = 4.0
    alpha: NonNegative = 10.5
    beta: NonNegative = 7.0
    depth: Annotated[int, Rule(lambda x: 2 <= x <= 10**6, "an integer of at least 2, up to 1e+06")] = 7

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``local`` and ``rest``; see :meth:`LogitMethod.terms`."""
        check_two_classes(student)
        depth = min(self.depth, student.shape[1])
        order = student.detach().argsort(dim=1, descending=True, stable=True)
        s, t = ((x / self.temperature).gather(1, order) for x in (student, teacher))
        pairs = list(itertools.combinations(range(depth), 2))
        chosen = torch.tensor(pairs, device=student.device)
        weights = torch.tensor([pair_weight(i + 1, j + 1) for i, j in pairs], dtype=s.dtype, device=s.device)
        in_pairs = kl_rows(*(F.log_softmax(x[:, chosen], dim=2) for x in (s, t)))
        in_all = kl_rows(*(F.log_softmax(x[:, :depth], dim=1) for x in (s, t)))
        local = ((in_pairs * weights).sum(dim=1) + in_all) / (len(pairs) + 1)
        terms = {"local": self.alpha * self.temperature**2 * local.mean(), "rest": s.new_zeros(())}
        if student.shape[1] > depth:
            rest = kl_rows(*(F.log_softmax(x[:, depth:], dim=1) for x in (s, t)))
            terms["rest"] = self.beta * self.temperature**2 * rest.mean()
        return terms
