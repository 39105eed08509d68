"""Decoupled knowledge distillation (DKD)."""

import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms, Warmup
from mcld.methods._logits import LogitMethod, check_two_classes, kl_rows, others
from mcld.options import Epochs, NonNegative, Temperature
from mcld.registry import register_method

PAIRS = {
    "resnet56-resnet20": 2.0,
    "resnet110-resnet32": 2.0,
    "resnet32x4-resnet8x4": 8.0,
    "wrn_40_2-wrn_16_2": 6.0,
    "wrn_40_2-wrn_40_1": 6.0,
    "vgg13-vgg8": 6.0,
    "vgg13-MobileNetV2": 6.0,
    "ResNet50-MobileNetV2": 8.0,
    "resnet32x4-ShuffleV1": 8.0,
    "resnet32x4-ShuffleV2": 8.0,
    "wrn_40_2-ShuffleV1": 8.0,
}

LSKD = {  # temperature, and the weights of both parts, as its authors named their logs
    "resnet56-resnet20": (3.0, 18.0, 36.0),
    "resnet110-resnet32": (2.0, 15.0, 30.0),
    "resnet32x4-resnet8x4": (2.0, 9.0, 72.0),
    "wrn_40_2-wrn_16_2": (2.0, 12.0, 24.0),
    "wrn_40_2-wrn_40_1": (2.0, 12.0, 24.0),
    "vgg13-vgg8": (2.0, 15.0, 30.0),
    "vgg13-MobileNetV2": (3.0, 9.0, 18.0),
    "ResNet50-MobileNetV2": (2.0, 15.0, 30.0),
    "resnet32x4-ShuffleV2": (2.0, 9.0, 72.0),
    "resnet110-resnet20": (2.0, 15.0, 30.0),
    "resnet32x4-wrn_16_2": (2.0, 9.0, 18.0),
    "resnet32x4-wrn_40_2": (2.0, 9.0, 72.0),
    "wrn_40_2-resnet8x4": (2.0, 18.0, 36.0),
    "wrn_40_2-MobileNetV2": (2.0, 15.0, 30.0),
}

IMAGENET = {
    "imagenet-resnet34-resnet18": {"temperature": 1.0, "beta": 0.5, "warmup": 1.0},
    "imagenet-resnet50-MobileNetV1": {"temperature": 1.0, "beta": 2.0, "warmup": 1.0},
}


def _lskd(temperature: float, alpha: float, beta: float) -> dict[str, float | bool]:
    return {"standardize": True, "temperature": temperature, "alpha": alpha, "beta": beta}


def dkd_parts(student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts of KL(teacher ‖ student) for each image: target (B,) and non-target (B,).

    The first is the KL of (probability of the label, probability of all else), the second the KL among the other
    classes, normalised without the label. With p the teacher's probability of the label, KL = first + (1 − p) · second
    (Zhao et al. 2022, arXiv 2203.08679, eq. 6).

    Args:
        student: logits (B, C), divided by the temperature, C ≥ 2.
        teacher: logits (B, C), divided by the temperature.
        labels: (B,) int64.
    """
    sides = []
    for logits in (teacher, student):
        rest = others(logits, labels)
        whole = logits.logsumexp(dim=1)
        target = logits.gather(1, labels.unsqueeze(1)).squeeze(1) - whole
        sides.append((target, rest.logsumexp(dim=1) - whole, F.log_softmax(rest, dim=1)))
    (target_t, rest_t, others_t), (target_s, rest_s, others_s) = sides
    first = target_t.exp() * (target_t - target_s) + rest_t.exp() * (rest_t - rest_s)
    return first, kl_rows(others_s, others_t)


@register_method("dkd")
class DKD(Warmup, LogitMethod):
    """Match the probability of the label, and the probabilities among the other classes, separately (Zhao et al. 2022).

    KL(teacher ‖ student) falls into a target part and (1 − p) times a non-target part (:func:`dkd_parts`), where p is
    the teacher's probability of the label: KD listens to the non-target part least where the teacher is surest. Here
    both have weights of their own. The terms are ``target``, ramp · alpha · T² · first part, and ``nontarget``,
    ramp · beta · T² · second part, averaged over the images.

    The ramp is min(epoch / warmup, 1) with epochs counted from 1, as in the authors' code, so that it changes once an
    epoch. It needs the number of epochs (:meth:`prepare`) and the progress of training.

    With two classes the non-target part is 0. With ``standardize`` this is DKD+LS; its authors multiply alpha and beta
    by 9 to 18, one setting for each pair (the presets that end in ``lskd``).

    Args:
        temperature: T > 0.
        alpha: weight of the target part, at least 0.
        beta: weight of the non-target part, at least 0; published values are 0.5 to 8.
        warmup: epochs until full strength, at least 0.

    Raises:
        InputError: for an option out of range, or fewer than two classes.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> student = torch.zeros(1, 3)  # the label has 1/3; the others 1/2 each
        >>> teacher = torch.tensor([[3.0, 2.0, 1.0]]).log()  # the label has 1/2; the others 2/3 and 1/3
        >>> terms = create_method("dkd", temperature=1, beta=2, warmup=0)(student, teacher, torch.tensor([0]))
        >>> round(terms["target"].item(), 4)  # 1/2 log(3/2) + 1/2 log(3/4)
        0.0589
        >>> round(terms["nontarget"].item(), 4)  # 2 (2/3 log(4/3) + 1/3 log(2/3))
        0.1133
    """

    title = "match the label's probability and those among the other classes separately"
    paper = "Zhao, Cui, Song, Qiu, Liang, CVPR 2022"
    year = 2022
    requires_global_batch = False
    target_terms = frozenset({"target"})
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        **{pair: {"beta": beta} for pair, beta in PAIRS.items()},
        **{f"{pair}-lskd": _lskd(*values) for pair, values in LSKD.items()},
        **IMAGENET,
    }

    temperature: Temperature = 4.0
    alpha: NonNegative = 1.0
    beta: NonNegative = 8.0
    warmup: Epochs = 20.0

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        """Return ``target`` and ``nontarget``; see :meth:`LogitMethod.terms`."""
        check_two_classes(student)
        T = self.temperature
        target, nontarget = dkd_parts(student / T, teacher / T, labels)
        scale = T**2 * self.warmed_up(progress, self.warmup)
        return {"target": scale * self.alpha * target.mean(), "nontarget": scale * self.beta * nontarget.mean()}
