"""Mean squared error on logits (MSE)."""

import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod
from mcld.options import Positive
from mcld.registry import register_method


@register_method("mse")
class MSE(LogitMethod):
    """Match the teacher's logits themselves (Ba and Caruana 2014; Kim et al. 2021).

    The term is ``mse``: the weight times the squared difference of the logits, averaged over classes and images (Kim et
    al. 2021, arXiv 2105.08919, eq. 4, write a sum over classes). Softmax does not see a constant added to all logits of
    an image; with ``center`` the term doesn't either, and is then twice the limit of KD at high temperatures. The
    weights 0.9, and 0.1 for cross-entropy, are ours, as with KD.

    Args:
        weight: > 0.
        center: true or false; subtract each row's mean first.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 3.0]])
        >>> label = torch.tensor([0])
        >>> create_method("mse", weight=1)(student, teacher, label)["mse"].item()  # (1 + 9) / 2
        5.0
        >>> create_method("mse", weight=1, center=True)(student, teacher, label)["mse"].item()  # (1 + 1) / 2
        1.0
    """

    title = "match the teacher's logits by mean squared error"
    paper = "Ba, Caruana, NeurIPS 2014; Kim, Oh, Kim, Cho, Yun, IJCAI 2021"
    year = 2014
    requires_global_batch = False
    ce_weight = 0.1

    weight: Positive = 0.9
    center: bool = False

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``{"mse": ...}``; see :meth:`LogitMethod.terms`."""
        if self.center:
            student, teacher = (x - x.mean(dim=1, keepdim=True) for x in (student, teacher))
        return {"mse": self.weight * F.mse_loss(student, teacher)}
