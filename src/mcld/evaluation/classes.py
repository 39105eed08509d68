"""How a network does on a split in full: class by class, and how far its probabilities can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mcld.evaluation.accuracy import Accuracy


@dataclass(frozen=True)
class ClassAccuracy:
    """One class.

    Attributes:
        name: of the class.
        images: of this class.
        right: those that the network gets right.
    """

    name: str
    images: int
    right: int

    @property
    def accuracy(self) -> float:
        """In [0, 1]; 0 for a class without images."""
        return self.right / max(self.images, 1)


@dataclass(frozen=True)
class Evaluation(Accuracy):
    """What came out on a split.

    Attributes:
        calibration_error: with the probabilities as trained, in [0, 1].
        temperature: that was fitted after training; None for a network without.
        calibrated_error: the calibration error at that temperature; None without.
        names: of the classes.
        labels: (N,) int64.
        predicted: (N,) int64, the most likely class.
    """

    calibration_error: float
    temperature: float | None
    calibrated_error: float | None
    names: Sequence[str] = field(repr=False)
    labels: Tensor = field(repr=False, compare=False)
    predicted: Tensor = field(repr=False, compare=False)

    @property
    def per_class(self) -> list[ClassAccuracy]:
        """Every class, in the order of the logits."""
        count = len(self.names)
        images = torch.bincount(self.labels, minlength=count).tolist()
        right = torch.bincount(self.labels[self.labels == self.predicted], minlength=count).tolist()
        return [ClassAccuracy(*row) for row in zip(self.names, images, right, strict=True)]

    @property
    def macro_f1(self) -> float:
        """F1 = 2·TP / (2·TP + FP + FN) of each class, averaged over the classes that occur or are predicted."""
        confusion = self.confusion.double()
        right, both = confusion.diagonal(), confusion.sum(0) + confusion.sum(1)
        return float((2 * right[both > 0] / both[both > 0]).mean())

    @property
    def confusion(self) -> Tensor:
        """(C, C) int64: images by what they are (rows) and what the network says (columns)."""
        count = len(self.names)
        return torch.bincount(self.labels * count + self.predicted, minlength=count**2).view(count, count)
