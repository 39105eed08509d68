"""Normalised knowledge distillation (NKD)."""

import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod, check_two_classes, others
from mcld.options import NonNegative, Temperature
from mcld.registry import register_method


@register_method("nkd")
class NKD(LogitMethod):
    """Cross-entropy with the teacher's probability of the label, and among the other classes (Yang et al. 2023).

    Let t and s be the probabilities of teacher and student, y the label, and t', s' those among the other classes at
    temperature T, normalised without the label. The terms are ``target``, −t_y · log s_y, always at temperature 1, and
    ``nontarget``, −gamma · T² · Σ t' · log s', averaged over the images (arXiv 2303.13005, eq. 9). Being
    cross-entropies they are not 0 at a student that equals the teacher.

    Args:
        temperature: T > 0, for the other classes.
        gamma: weight of the other classes, at least 0.

    Raises:
        InputError: for an option out of range, or fewer than two classes.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> student = torch.zeros(1, 3)  # the label has 1/3; the others 1/2 each
        >>> teacher = torch.tensor([[3.0, 2.0, 1.0]]).log()  # the label has 1/2
        >>> terms = create_method("nkd", gamma=2)(student, teacher, torch.tensor([0]))
        >>> round(terms["target"].item(), 4)  # 1/2 log 3
        0.5493
        >>> round(terms["nontarget"].item(), 4)  # 2 log 2
        1.3863
    """

    title = "cross-entropy with the teacher's probability of the label and among the other classes"
    paper = "Yang, Zeng, Li, Zhang, Yuan, Li, ICCV 2023"
    year = 2023
    requires_global_batch = False
    target_terms = frozenset({"target"})
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "ResNet34-ResNet18": {"temperature": 3.0, "gamma": 3.5},
        "deit3_small-deit_tiny": {"temperature": 1.0, "gamma": 1.0},
    }

    temperature: Temperature = 1.0
    gamma: NonNegative = 1.5

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``target`` and ``nontarget``; see :meth:`LogitMethod.terms`."""
        check_two_classes(student)
        y, T = labels.unsqueeze(1), self.temperature
        log_s, log_t = (F.log_softmax(x, dim=1).gather(1, y) for x in (student, teacher))
        rest_s, rest_t = (F.log_softmax(others(x, labels) / T, dim=1) for x in (student, teacher))
        nontarget = -(rest_t.exp() * rest_s).sum(dim=1).mean()
        return {"target": -(log_t.exp() * log_s).mean(), "nontarget": self.gamma * T**2 * nontarget}
