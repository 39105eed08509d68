"""Plackett-Luce distillation (PLD)."""

import torch
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod
from mcld.options import Positive, Temperature
from mcld.registry import register_method


def teacher_ranking(teacher: Tensor, labels: Tensor) -> Tensor:
    """The classes (B, C), the label first, then by the teacher's falling logits; equal ones in the classes' order.

    Example:
        >>> import torch
        >>> from mcld.methods.pld import teacher_ranking
        >>> teacher_ranking(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([2]))
        tensor([[2, 1, 0]])
    """
    return teacher.scatter(1, labels.unsqueeze(1), torch.inf).argsort(dim=1, descending=True, stable=True)


@register_method("pld")
class PLD(LogitMethod):
    """Rank the classes as the teacher does, the true one first (Bassam et al. 2025).

    A ranking is seen as choices: of all classes the first, of those left the second, and so on, each with the student's
    softmax over what is left. With π the ranking that has the label first and the others by the teacher's falling
    logits, q the teacher's probabilities at its temperature, and s the student's logits, the term is ``ranking``:

        weight · mean Σ_k q_{π_k} · (log Σ_{l ≥ k} exp(s_{π_l}) − s_{π_k})

    (arXiv 2506.12542, section 4.2 and appendix C). The first choice is cross-entropy times the teacher's probability of
    the label: the method brings its own, and the loop adds none (``ce_weight`` 0).

    The paper trains with AdamW for 250 epochs; it uses temperature 1 on ImageNet and 4 on CIFAR-100.

    Args:
        temperature: of the teacher's probabilities, > 0; the student's logits are taken as they are.
        weight: > 0.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> teacher = torch.tensor([[1.0, 2.0, 1.0]]).log()  # 1/4, 1/2, 1/4
        >>> terms = create_method("pld")(torch.zeros(1, 3), teacher, torch.tensor([0]))
        >>> round(terms["ranking"].item(), 4)  # 1/4 log 3 + 1/2 log 2 + 0
        0.6212
    """

    title = "rank the classes as the teacher does, the true one first"
    paper = "Bassam, Zhu, Bian, NeurIPS 2025"
    year = 2025
    ce_weight = 0.0
    requires_global_batch = False
    presets = {"cifar100": {"temperature": 4.0}}  # noqa: RUF012 - declared as a ClassVar in Method

    temperature: Temperature = 1.0
    weight: Positive = 1.0

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``{"ranking": ...}``; see :meth:`LogitMethod.terms`."""
        ranking = teacher_ranking(teacher, labels)
        s = student.gather(1, ranking)
        left = s.flip(1).logcumsumexp(dim=1).flip(1)  # over what each choice had to choose from
        q = (teacher / self.temperature).softmax(dim=1).gather(1, ranking)
        return {"ranking": self.weight * (q * (left - s)).sum(dim=1).mean()}
