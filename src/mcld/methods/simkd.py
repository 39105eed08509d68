"""The reused teacher classifier (SimKD)."""

import torch.nn.functional as F
from torch import Tensor

from mcld.errors import InputError
from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import POOLED, FeatureMethod, pooled_pair
from mcld.options import Positive
from mcld.registry import register_method


@register_method("simkd")
class SimKD(FeatureMethod):
    """Make features that the teacher's own classifier can read (Chen et al. 2022).

    The student's last layer gives way to a projector (Linear, batch normalisation, ReLU, Linear) to the teacher's
    features, followed by the teacher's own last layer, which is not trained. The term is ``features``: the weight times
    the mean of (S − T)², where S and T are what this layer reads in both networks (arXiv 2203.14001). The labels are
    not used: the weight of cross-entropy is 0. All these weights are as published. The authors' projector is another:
    three convolutions with half the teacher's channels between them, on maps, which they compare before they are
    pooled. Projecting and comparing pooled vectors serves every network. Projector and layer are part of the student:
    they are exported with it, and ``reused`` in its ``model.json`` says so.

    Args:
        weight: > 0.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> from mcld.methods import Outputs
        >>> student = Outputs(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]))
        >>> teacher = Outputs(torch.zeros(1, 2), torch.tensor([[1.0, 4.0]]))
        >>> create_method("simkd", weight=3)(student, teacher, torch.tensor([0]))["features"].item()  # 3 · (0 + 4) / 2
        6.0
    """

    title = "reuse the teacher's classifier, and match the features that it reads"
    paper = "Chen, Mei, Zhang, Wang, Feng, Chen, CVPR 2022"
    year = 2022
    family = "features"
    needs = POOLED
    requires_global_batch = False
    ce_weight = 0.0
    reuses_classifier = True

    weight: Positive = 1.0

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Check that the features match; see :meth:`Method.prepare`."""
        if student.pooled != teacher.pooled:
            raise InputError(
                f"the student's classifier reads {student.pooled} features and the teacher's {teacher.pooled}; "
                "expected a student with the teacher's classifier (mcld.models.network.reuse_classifier)"
            )

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"features": ...}``."""
        return {"features": self.weight * F.mse_loss(*pooled_pair(student, teacher))}
