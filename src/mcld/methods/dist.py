"""Distillation from a stronger teacher by correlations (DIST)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod
from mcld.options import NonNegative, Temperature
from mcld.registry import register_method
from mcld.rows import constant_step, unit_rows


def correlation_loss(log_q: Tensor, log_p: Tensor) -> Tensor:
    """1 − Pearson's correlation of each row of exp(log_q) with the same row of exp(log_p), averaged over the rows.

    Correlation does not see scale, so each row is divided by its largest element, while still a logarithm: rows of the
    smallest probabilities neither vanish nor make the gradient overflow. A constant row counts as uncorrelated.

    Args:
        log_q: (n, d).
        log_p: (n, d).
    """
    a, b = (unit_rows((x - x.detach().amax(dim=1, keepdim=True)).exp()) for x in (log_q, log_p))
    return 1 - (a * b).sum(dim=1).mean()


def published_correlation_loss(q: Tensor, p: Tensor) -> Tensor:
    """:func:`correlation_loss` of rows of probabilities (n, d), with 1e-8 added to the product of the norms.

    Rows that are constant but for rounding count as uncorrelated; the released code divides their noise by 1e-8.
    """
    a, b = (x - x.mean(dim=1, keepdim=True) for x in (q, p))
    product = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    varies = a.abs().amax(dim=1) > constant_step(q) * q.amax(dim=1)
    return 1 - torch.where(varies, (a * b).sum(dim=1) / (product + 1e-8), 0.0).mean()


@register_method("dist")
class DIST(LogitMethod):
    """Correlate the student's probabilities with the teacher's, within images and within classes (Huang et al. 2022).

    With the probabilities of both at temperature T, the terms are ``inter``, beta · T² · (1 − correlation) averaged
    over the rows (the classes of an image), and ``intra``, gamma · T² · (1 − correlation) averaged over the columns
    (one class through the images of the batch) (arXiv 2205.10536, section 4). Correlation is Pearson's, so the student
    need not match the scale and shift of the teacher's probabilities. The default weights of 2 are the published 1
    times the outer weight of 2. Batch size matters for ``intra``.

    A constant row or column correlates with nothing: it counts as 0 and no gradient flows to it. So a single image has
    an ``intra`` of gamma · T². The released code adds 1e-8 to the norms' product instead, which also damps columns of
    very small probabilities: classes that are unlikely in the whole batch, most of them where the temperature is 1 and
    the classes are many. ``as_published`` does as it does.

    Args:
        temperature: T > 0; 4 on CIFAR-100, 1 on ImageNet.
        beta: weight of the rows, at least 0.
        gamma: weight of the columns, at least 0.
        as_published: true or false; add 1e-8 to the norms' product.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> terms = create_method("dist", temperature=1)(-teacher, teacher, torch.tensor([0, 1]))
        >>> {name: round(term.item(), 4) for name, term in terms.items()}  # all correlations are -1: 2 (1 - -1)
        {'inter': 4.0, 'intra': 4.0}
    """

    title = "correlate probabilities within images and within classes"
    paper = "Huang, You, Wang, Qian, Xu, NeurIPS 2022"
    year = 2022
    requires_global_batch = True
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "published": {"as_published": True},
        "imagenet": {"temperature": 1.0},
    }

    temperature: Temperature = 4.0
    beta: NonNegative = 2.0
    gamma: NonNegative = 2.0
    as_published: bool = False

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``inter`` and ``intra``; see :meth:`LogitMethod.terms`."""
        log_q, log_p = (F.log_softmax(logits / self.temperature, dim=1) for logits in (student, teacher))
        scale = self.temperature**2
        if self.as_published:
            q, p = log_q.exp(), log_p.exp()
            return {
                "inter": self.beta * scale * published_correlation_loss(q, p),
                "intra": self.gamma * scale * published_correlation_loss(q.T, p.T),
            }
        return {
            "inter": self.beta * scale * correlation_loss(log_q, log_p),
            "intra": self.gamma * scale * correlation_loss(log_q.T, log_p.T),
        }
