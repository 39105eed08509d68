"""Transformed teacher matching (TTM)."""

import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod, kl_rows
from mcld.options import Positive, Temperature
from mcld.registry import register_method


def ttm_parts(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / T) ‖ softmax(student)) of each image, (B,).

    Args:
        student: logits (B, C).
        teacher: logits (B, C).
        temperature: T > 0, of the teacher alone.
    """
    log_p, log_q = F.log_softmax(teacher / temperature, dim=1), F.log_softmax(student, dim=1)
    return kl_rows(log_q, log_p)


@register_method("ttm")
class TTM(LogitMethod):
    """KD with a temperature on the teacher's side only (Zheng and Yang 2024).

    The term is ``kl``: the weight times KL(softmax(teacher / T) ‖ softmax(student)), averaged over the images. Dividing
    the teacher's logits by T raises its probabilities to the power γ = 1 / T and normalises them anew, hence the name;
    without a temperature of its own the student is pressed towards smoother outputs (arXiv 2402.11148, section 3).
    There is no factor T². The least value, 0, is at student = teacher / T.

    The default options are those of the example for vgg13 and vgg8 in the authors' instructions (γ 0.1, weight 45);
    they tune both for each pair.

    Args:
        temperature: T > 0; the paper's 1 / γ.
        weight: > 0; the paper's β.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> teacher = torch.tensor([[9.0, 1.0]]).log()  # at temperature 2: 3/4 and 1/4
        >>> terms = create_method("ttm", temperature=2, weight=1)(torch.zeros(1, 2), teacher, torch.tensor([0]))
        >>> round(terms["kl"].item(), 4)  # log 2 - entropy = 0.6931 - 0.5623
        0.1308
    """

    title = "KD with a temperature on the teacher's side only"
    paper = "Zheng, Yang, ICLR 2024"
    year = 2024
    requires_global_batch = False

    temperature: Temperature = 10.0
    weight: Positive = 45.0

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``{"kl": ...}``; see :meth:`LogitMethod.terms`."""
        return {"kl": self.weight * ttm_parts(student, teacher, self.temperature).mean()}
