"""How well a network's confidence says how often it is right."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """The expected calibration error (Naeini et al. 2015; Guo et al. 2017, with their 15 bins).

    Images are sorted by confidence, the highest softmax probability, into bins of equal width on (0, 1]. The error is
    the mean over the images of |accuracy of their bin − mean confidence of their bin|.

    Args:
        logits: (N, C).
        labels: (N,) int64.
        bins: at least 1.

    Returns:
        In [0, 1].

    Example:
        >>> logits = torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log()  # 90% sure of class 0 twice, right once
        >>> round(calibration_error(logits, torch.tensor([0, 1])), 4)
        0.4
    """
    confidence, predicted = F.softmax(logits.double(), dim=1).max(dim=1)
    right = (predicted == labels).double()
    place = (confidence * bins).ceil().clamp(1, bins).long() - 1
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, place, right - confidence)
    return float(gaps.abs().sum() / len(labels))


COLDEST, HOTTEST = 0.05, 20.0
"""The temperatures between which :func:`fit_temperature` looks: on few images the best can be 0 or infinite."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T at which softmax(logits / T) has the least cross-entropy (Guo et al. 2017, section 4.2).

    The order of the classes stays, and so does accuracy. Fit it on images that were not trained on.

    Args:
        logits: (N, C), finite.
        labels: (N,) int64.

    Returns:
        In [0.05, 20]; above 1 for a network that is too sure; 1 where all are as good, as for equal logits.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0]] * 4)  # 88% sure of class 0, right in 3 of 4
        >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)  # 2 / log 3
        1.82
    """
    rows = logits.double()
    own = rows.gather(1, labels[:, None]).squeeze(1)

    def slope(inverse: float) -> float:
        """Of the cross-entropy by 1 / T, in which it is convex."""
        shares = (rows * inverse).softmax(dim=1)
        return float(((shares * rows).sum(dim=1) - own).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) == slope(high) == 0:
        return 1.0
    if slope(low) >= 0 or slope(high) <= 0:
        return HOTTEST if slope(low) >= 0 else COLDEST
    for _ in range(40):  # to 1e-8 of the temperature
        middle = math.sqrt(low * high)
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / math.sqrt(low * high)


@dataclass(frozen=True)
class Calibration:
    """What a network's probabilities are worth on some images.

    Attributes:
        temperature: that they are best divided by, before softmax (:func:`fit_temperature`).
        before: the calibration error at temperature 1, in [0, 1].
        after: the calibration error at ``temperature``, in [0, 1].
    """

    temperature: float
    before: float
    after: float


def calibrate(logits: Tensor, labels: Tensor, temperature: float | None = None) -> Calibration:
    """The calibration error without and with a temperature.

    Args:
        logits: (N, C), finite.
        labels: (N,) int64.
        temperature: None to fit it on these images, for which it is then optimistic.
    """
    chosen = fit_temperature(logits, labels) if temperature is None else temperature
    return Calibration(chosen, calibration_error(logits, labels), calibration_error(logits.double() / chosen, labels))


def most_likely(logits: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The most likely class (N,) int64 for logits (N, C), and its probability (N,) float32."""
    rows = logits.float() if logits.device.type == "mps" else logits.double()
    confidence, predicted = (rows / temperature).softmax(dim=1).max(dim=1)
    return predicted, confidence.float()
