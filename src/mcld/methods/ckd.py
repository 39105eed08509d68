"""Contrastive knowledge distillation, sample-wise (CKD)."""

from torch import Tensor

from mcld.contrast import Contrast, Relation, contrast
from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod
from mcld.options import Positive, Temperature
from mcld.registry import register_method
from mcld.rows import unit_rows


@register_method("ckd")
class CKD(LogitMethod):
    """Find the student's logits of an image among those of the batch, by its teacher logits (Zhu et al. 2024).

    The term is ``contrast``: the weight times InfoNCE (:func:`mcld.info_nce`) with the teacher's rows as anchors and
    the student's rows as candidates, cosines of the raw logits divided by a temperature, and each image its own target
    (arXiv 2404.14109). This is MCLD's instance-wise term with the anchors on the teacher's side, without Target Mask
    and without centring (the preset ``ckd`` of ``mcld``). At temperature 1 cosines span little, hence the large weight.

    A row of zeros has no direction: its cosines are 0 and no gradient flows to it.

    Args:
        temperature: > 0, for cosines.
        weight: > 0; 10 to 100 as published.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> terms = create_method("ckd")(torch.eye(2), torch.eye(2), torch.tensor([0, 1]))
        >>> round(terms["contrast"].item(), 2)  # 100 log(1 + exp(-1))
        31.33
    """

    title = "find the student's logits of an image in the batch by the teacher's"
    paper = "Zhu, Zhou, Zhu, Wang, Hu, arXiv 2404.14109, 2024"
    year = 2024
    requires_global_batch = True
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "resnet56-resnet20": {"weight": 10.0},
        "resnet110-resnet32": {"weight": 10.0},
        "vgg13-MobileNetV2": {"weight": 50.0, "temperature": 2.0},
        "wrn_40_2-wrn_40_1": {"weight": 50.0, "temperature": 2.0},
        "imagenet": {"weight": 10.0},
        "places365": {"weight": 10.0},
    }

    temperature: Temperature = 1.0
    weight: Positive = 100.0

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``{"contrast": ...}``; see :meth:`LogitMethod.terms`."""
        anchors, candidates = unit_rows(teacher, center=False), unit_rows(student, center=False)
        (loss,) = contrast(anchors, [candidates], Relation(), [Contrast(self.temperature)])
        return {"contrast": self.weight * loss}
