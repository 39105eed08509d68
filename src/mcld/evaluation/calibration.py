"""How well a network's confidence says how often it is right."""

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
