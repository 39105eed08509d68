"""Means, spreads and paired differences of runs, with formulas that are said."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

REPLICATES = 10_000


@dataclass(frozen=True)
class Spread:
    """Values of some runs.

    Attributes:
        mean: arithmetic.
        sd: the sample standard deviation, with n − 1; None for a single value.
        n: how many values.
    """

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """A paired difference in accuracy, as a share.

    Attributes:
        mean: first − second.
        low: the lower end of the 95% interval.
        high: its upper end.
        seeds: how many pairs of runs.
        images: how many test images.
    """

    mean: float
    low: float
    high: float
    seeds: int
    images: int


def spread(values: Sequence[float]) -> Spread:
    """The mean and the sample standard deviation.

    Example:
        >>> spread([1.0, 2.0, 3.0])
        Spread(mean=2.0, sd=1.0, n=3)
        >>> spread([1.0]).sd is None
        True
    """
    array = np.asarray(values, dtype=np.float64)
    return Spread(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None, len(array))


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, replicates: int = REPLICATES, level: float = 0.95, seed: int = 0
) -> Difference:
    """The difference of two methods that ran with the same seeds and were tested on the same images.

    Let d[s, i] be first − second for seed s and image i: 1, 0 or −1 for right and wrong. The difference is the mean of
    d. For its interval both seeds and images are drawn anew, with replacement and independently of each other, which
    keeps the pairs together and lets an image be hard for all seeds (the pigeonhole bootstrap, Owen 2007); the interval
    is between the percentiles of the drawn means. It errs to the wide side where chance per image dominates. With few
    seeds their part is drawn from few values and too narrow by √(1 − 1/S); with one seed it carries the images only.

    Args:
        first: (S, N) which of N images are right, for each of S seeds.
        second: (S, N), with seeds and images in the same order.
        replicates: how many times to draw.
        level: of the interval.
        seed: of the drawing: equal input gives equal output.

    Example:
        >>> always, never = np.ones((2, 50), bool), np.zeros((2, 50), bool)
        >>> paired_difference(always, never)
        Difference(mean=1.0, low=1.0, high=1.0, seeds=2, images=50)
    """
    d = np.asarray(first, dtype=np.int8) - np.asarray(second, dtype=np.int8)
    seeds, images = d.shape
    rng = np.random.default_rng(seed)
    # Images with the same column are alike: drawing how many come from each kind is drawing the images.
    kinds, counts = np.unique(d, axis=1, return_counts=True)
    drawn = rng.multinomial(images, counts / images, size=replicates)
    by_seed = drawn @ kinds.T.astype(np.float64) / images
    chosen = rng.integers(seeds, size=(replicates, seeds))
    means = np.take_along_axis(by_seed, chosen, axis=1).mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(d.mean()), float(low), float(high), seeds, images)
