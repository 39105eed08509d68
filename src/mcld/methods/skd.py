"""Streamlined knowledge distillation (SKD)."""

import torch
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod
from mcld.methods.kd import kd_loss
from mcld.methods.mlkd import share_up_to_median
from mcld.options import NonNegative, Positive, Temperature
from mcld.registry import register_method
from mcld.rows import unit_rows


def direction_loss(student: Tensor, teacher: Tensor, regularization: float, divisor: float = 1.0) -> Tensor:
    """How far the cosines between images are from the teacher's, in units of how much they vary.

    With D the difference of the two Gram matrices of unit logit rows, Σ the covariance of its rows and λ the
    regularization, the mean over the images i of sqrt(D_i (Σ + λI)⁻¹ D_iᵀ). By Σ + λI = L Lᵀ that is ‖L⁻¹ D_iᵀ‖.

    Args:
        student: logits (B, C), float32 or float64.
        teacher: logits (B, C), of the same type.
        regularization: λ > 0.
        divisor: of both Gram matrices, > 0.
    """
    s, t = unit_rows(student, center=False), unit_rows(teacher, center=False)
    difference = (s @ s.T - t @ t.T) / divisor
    centred = difference - difference.mean(dim=0)
    covariance = centred.T @ centred / max(len(difference) - 1, 1)
    identity = torch.eye(len(difference), dtype=difference.dtype, device=difference.device)
    # Without an error, which an accelerator would have to be waited for: what has no factor becomes NaN.
    factor, failed = torch.linalg.cholesky_ex(covariance + regularization * identity)
    factor = factor.masked_fill(failed > 0, torch.nan)
    whitened = torch.linalg.solve_triangular(factor, difference.T, upper=False)
    # The root's gradient at 0 is infinite: a row without difference gets none.
    squares: Tensor = whitened.square().sum(dim=0)
    return squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt().mean()


@register_method("skd")
class SKD(LogitMethod):
    """KD, and the cosines between the logits of images, whitened by their covariance (Jeong et al. 2026).

    The terms are ``kl``, the weight times :func:`mcld.methods.kd.kd_loss`, and ``direction``, the direction weight
    times :func:`direction_loss`. The nearest kin of DIST and MCLD: relations of images without contrast.

    The paper (Streamlined Knowledge Distillation, CVPR 2026; we know its formulas from a note on it, and from
    torchdistill's implementation) adds both with equal weights and gives no λ. The weights here and λ are those of the
    authors' code, which names 0.5 and 0.5 for cross-entropy and the rest as better for resnet32x4-resnet8x4.

    ``as_published`` computes what that code computes, which is not what the paper says: ``kl`` times the share of
    images on which the teacher's confidence is at most the batch's median (a mask is applied to a loss that is already
    averaged); the Gram matrices divided by the number of classes; ``direction`` times the share of classes of which the
    summed probability is at most the median.

    Args:
        temperature: T > 0, of ``kl``.
        weight: of ``kl``, > 0.
        direction: weight of ``direction``, at least 0.
        regularization: λ > 0.
        as_published: true or false; compute what the authors' code computes.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> method = create_method("skd", direction=1, regularization=1)
        >>> terms = method(student, teacher, torch.tensor([0, 1]))
        >>> round(terms["direction"].item(), 4)  # D = [[0, -1], [-1, 0]], Σ + I = [[3, -1], [-1, 3]] / 2
        0.866
    """

    title = "KD, and whitened cosines between the logits of images"
    paper = "Jeong, Lee, Choi, CVPR 2026"
    year = 2026
    ce_weight = 0.1
    requires_global_batch = True
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "published": {"as_published": True},
        "resnet32x4-resnet8x4": {"as_published": True, "weight": 0.5, "direction": 0.5},
    }
    preset_ce_weights = {"resnet32x4-resnet8x4": 0.5}  # noqa: RUF012 - declared as a ClassVar in Method

    temperature: Temperature = 4.0
    weight: Positive = 0.9
    direction: NonNegative = 0.9
    regularization: Positive = 0.1
    as_published: bool = False

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``kl`` and ``direction``; see :meth:`LogitMethod.terms`."""
        kl, divisor = kd_loss(student, teacher, self.temperature), 1.0
        if self.as_published:
            divisor = float(student.shape[1])
        direction = direction_loss(student, teacher, self.regularization, divisor)
        if self.as_published:
            certainty = teacher.softmax(dim=1)
            kl = kl * share_up_to_median(certainty.amax(dim=1))
            direction = direction * share_up_to_median(certainty.sum(dim=0))
        return {"kl": self.weight * kl, "direction": self.direction * direction}
