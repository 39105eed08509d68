"""How far training is, and what methods make of it: a number, or a number on the device where a step is replayed.

A step that is captured once and replayed (``step=graph``) cannot have a Python number in it that changes. Written with
these functions a ramp takes both. Nobody asks a tensor for its value, since the device would be waited for.
"""

import math
from typing import TypeAlias

import torch
from torch import Tensor

Progress: TypeAlias = float
"""The share of training that is done, from 0 to 1: a number, or a scalar tensor in float64 that stands for one. Methods
read it as a float, and one that knows nothing of tensors works wherever nothing is replayed."""


def at_most(x: Progress, bound: float) -> Progress:
    """The smaller of the two."""
    return x.clamp(max=bound) if isinstance(x, Tensor) else min(x, bound)


def floor(x: Progress) -> Progress:
    """The largest integer that is not larger."""
    return torch.floor(x) if isinstance(x, Tensor) else math.floor(x)


def cosine(x: Progress) -> Progress:
    """(1 + cos(π·x)) / 2: from 1 at 0 to 0 at 1, and so on to both sides."""
    return (1 + torch.cos(torch.pi * x)) / 2 if isinstance(x, Tensor) else (1 + math.cos(math.pi * x)) / 2


def reached(x: Progress, point: float) -> Progress:
    """1 from this point on, 0 before."""
    return (x >= point).to(x.dtype) if isinstance(x, Tensor) else float(x >= point)


def factor(x: Progress) -> Progress:
    """As a factor of a loss, whose dtype it leaves alone."""
    return x.float() if isinstance(x, Tensor) else x
