import math
from statistics import NormalDist

import numpy as np
import pytest

from mcld.runs.statistics import paired_difference, spread


def test_spread() -> None:
    found = spread([0.5, 0.7, 0.6, 0.8])
    assert found.mean == pytest.approx(0.65)
    assert found.sd == pytest.approx(math.sqrt(sum((x - 0.65) ** 2 for x in (0.5, 0.7, 0.6, 0.8)) / 3))
    assert found.n == 4


def test_one_seed_has_the_interval_of_a_mean_of_images() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random((1, 4000)) < 0.6, rng.random((1, 4000)) < 0.5
    found = paired_difference(first, second)
    d = first.astype(float) - second
    half = NormalDist().inv_cdf(0.975) * d.std() / math.sqrt(4000)
    assert found.mean == pytest.approx(d.mean())
    assert found.low == pytest.approx(d.mean() - half, abs=1e-3)
    assert found.high == pytest.approx(d.mean() + half, abs=1e-3)
    assert (found.seeds, found.images) == (1, 4000)


def test_seeds_that_differ_widen_the_interval_though_images_are_many() -> None:
    second = np.zeros((2, 100_000), bool)
    first = second.copy()
    first[0] = True  # seed 0: a difference of 1; seed 1: none. Drawn means are 0, 1/2 and 1 with 1/4, 1/2 and 1/4.
    found = paired_difference(first, second)
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_pairing_by_image_narrows_the_interval() -> None:
    rng = np.random.default_rng(2)
    hard = rng.random(2000) < 0.5
    first = np.stack([hard] * 3)
    second = first.copy()
    second[:, np.flatnonzero(hard)[:20]] = False  # 20 images of 2,000 are lost, the same for all seeds
    found = paired_difference(first, second)
    assert found.mean == pytest.approx(0.01)
    assert 0.005 < found.low < found.high < 0.015
    shuffled = np.stack([row[rng.permutation(2000)] for row in second])
    loose = paired_difference(first, shuffled)
    assert loose.high - loose.low > 3 * (found.high - found.low)


def test_it_agrees_with_drawing_seeds_and_images_one_by_one() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((3, 60)) < 0.7, rng.random((3, 60)) < 0.5
    d = first.astype(float) - second
    means = [d[rng.integers(3, size=3)][:, rng.integers(60, size=60)].mean() for _ in range(20_000)]
    low, high = np.quantile(means, [0.025, 0.975])
    found = paired_difference(first, second)
    assert found.low == pytest.approx(low, abs=0.012)
    assert found.high == pytest.approx(high, abs=0.012)


def test_the_interval_covers_what_it_says() -> None:
    """Five seeds of two methods that are equally good: the 95% interval holds 0 about that often."""
    rng = np.random.default_rng(4)
    hits, trials = 0, 300
    for _ in range(trials):
        ease = rng.normal(size=(1, 1, 400))
        skill = 0.05 * rng.normal(size=(2, 5, 1))
        right = ease + skill + 0.7 * rng.normal(size=(2, 5, 400)) > 0
        found = paired_difference(right[0], right[1], replicates=500)
        hits += found.low <= 0 <= found.high
    assert 0.9 < hits / trials <= 1


def test_order_only_turns_the_sign() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.random((4, 500)) < 0.7, rng.random((4, 500)) < 0.6
    one, other = paired_difference(first, second), paired_difference(second, first)
    assert one.mean == pytest.approx(-other.mean)
    assert one.low == pytest.approx(-other.high, abs=0.004)
