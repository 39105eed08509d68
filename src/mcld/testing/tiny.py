"""Two tiny networks, and a Distiller for a method on them."""

import copy

import torch
from torch import Tensor, nn

from mcld.distiller import Distiller
from mcld.methods import Method

CLASSES, SIDE, IMAGES, EPOCHS = 4, 8, 30, 240
LABELS = torch.arange(IMAGES) % CLASSES
"""Of the training images."""


def tiny_distiller(method: Method) -> Distiller:
    """A copy of the method on a student and a teacher of three stages, in float64, without cross-entropy.

    The same every time it is called with the same method; the random state stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        student, teacher = _network((2, 3, 5)), _network((4, 6, 7))
        distiller = Distiller(
            student,
            teacher,
            copy.deepcopy(method),
            epochs=EPOCHS,
            image_size=SIDE,
            ce_weight=0,
            train_labels=LABELS,
        )
        teacher.double()
        return distiller.double()


def tiny_batch(step: int, rows: int, views: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Images (rows, channels, H, W), or (rows, 2, ...) of two views; labels; positions in the training set."""
    generator = torch.Generator().manual_seed(step)
    sizes = (rows, 3, SIDE, SIDE) if views == 1 else (rows, views, 3, SIDE, SIDE)
    index = torch.randperm(IMAGES, generator=generator)[:rows]
    return torch.rand(*sizes, generator=generator, dtype=torch.float64), LABELS[index], index


def _network(widths: tuple[int, ...]) -> nn.Module:
    """Without batch normalisation, which would see the rows of one rank only; smooth, for the gradients."""
    layers: list[nn.Module] = []
    before = 3
    for number, width in enumerate(widths):
        layers.append(nn.Sequential(nn.Conv2d(before, width, 3, stride=1 + (number > 0), padding=1), nn.SiLU()))
        before = width
    head = nn.Linear(before, CLASSES)
    with torch.no_grad():
        head.weight *= 30  # logits that tell images apart
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
