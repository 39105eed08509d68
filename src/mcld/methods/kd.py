"""Knowledge distillation by softened probabilities (KD)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod, check_two_classes, kl_rows
from mcld.methods.dkd import dkd_parts
from mcld.options import Positive, Temperature
from mcld.registry import register_method
from mcld.rows import at_least_float32


def kd_loss(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), in nats, averaged over the images.

    Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2: the factor T² keeps the size of the gradient when the
    temperature changes. Computed in log space, in at least float32.

    Args:
        student: logits (B, C).
        teacher: logits (B, C).
        temperature: T > 0.
    """
    s, t = at_least_float32(student, teacher)
    log_p = F.log_softmax(t / temperature, dim=1)
    log_q = F.log_softmax(s / temperature, dim=1)
    return temperature**2 * kl_rows(log_q, log_p).mean()


def kd_total(student: Tensor, teacher: Tensor, temperatures: Sequence[float]) -> Tensor:
    """The sum of :func:`kd_loss` over several temperatures, computed at once.

    Args:
        student: logits (B, C), float32 or float64.
        teacher: logits (B, C), of the same type.
        temperatures: each > 0.
    """
    log_q, log_p = (F.log_softmax(torch.stack([x / T for T in temperatures]), dim=2) for x in (student, teacher))
    losses = kl_rows(log_q, log_p).mean(dim=1)
    return torch.stack([T**2 * loss for T, loss in zip(temperatures, losses.unbind(), strict=True)]).sum()


def _lskd(temperature: float, weight: float) -> dict[str, float | bool]:
    return {"standardize": True, "temperature": temperature, "weight": weight}


@register_method("kd")
class KD(LogitMethod):
    """Match the teacher's probabilities, softened by a temperature (Hinton et al. 2015).

    The term is ``kl``: the weight times :func:`kd_loss`, T² · KL(teacher ‖ student) of the probabilities at
    temperature T. The field's setting for CIFAR-100 is temperature 4, weight 0.9, and 0.1 for cross-entropy.

    With ``standardize`` this is LSKD (Sun et al. 2024, arXiv 2403.01427): the published base temperature is then 2 and
    the weight 9, both in the presets that end in ``lskd``, and cross-entropy keeps its 0.1.

    With ``decoupled`` the same loss comes in two terms (:func:`mcld.methods.dkd.dkd_parts`): ``target``, the KL of
    (probability of the label, the rest), and ``nontarget``, the KL among the other classes times the teacher's
    probability of these. ``optimizer=deepkd`` takes their gradients apart.

    Args:
        temperature: T > 0.
        weight: > 0.
        decoupled: true or false; name the part of the label's class and that of the others apart.

    Raises:
        InputError: for an option out of range.

    Example:
        >>> import torch
        >>> from mcld import KD
        >>> student = torch.tensor([[0.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 1.0986123]])  # probabilities 1/4 and 3/4
        >>> terms = KD(temperature=1, weight=1)(student, teacher, torch.tensor([1]))
        >>> round(terms["kl"].item(), 4)  # log 2 - entropy = 0.6931 - 0.5623
        0.1308
    """

    title = "match the teacher's softened probabilities"
    paper = "Hinton, Vinyals, Dean, 2015"
    year = 2015
    requires_global_batch = False
    ce_weight = 0.1
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "imagenet": {"temperature": 1.0, "weight": 0.5},
        "lskd": _lskd(2, 9),
        "vgg13-vgg8-lskd": _lskd(3, 9),
        "vgg13-MobileNetV2-lskd": _lskd(3, 9),
        "resnet32x4-wrn_16_2-lskd": _lskd(3, 9),
        "resnet32x4-wrn_40_2-lskd": _lskd(3, 9),
        "wrn_40_2-MobileNetV2-lskd": _lskd(3, 9),
        "resnet110-resnet20-lskd": _lskd(4, 12),
        "ResNet50-MobileNetV2-lskd": _lskd(3, 1),
    }
    preset_ce_weights = {"imagenet": 0.5}  # noqa: RUF012 - declared as a ClassVar in Method

    temperature: Temperature = 4.0
    weight: Positive = 0.9
    decoupled: bool = False

    def __post_init__(self) -> None:
        """Say which term is about the label's class."""
        super().__post_init__()
        if self.decoupled:
            self.target_terms = frozenset({"target"})

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``{"kl": ...}``, or ``target`` and ``nontarget``; see :meth:`LogitMethod.terms`."""
        if self.decoupled:
            check_two_classes(student)
            s, t = student / self.temperature, teacher / self.temperature
            target, nontarget = dkd_parts(s, t, labels)
            others = 1 - t.softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
            scale = self.weight * self.temperature**2
            return {"target": scale * target.mean(), "nontarget": scale * (others * nontarget).mean()}
        return {"kl": self.weight * kd_loss(student, teacher, self.temperature)}
