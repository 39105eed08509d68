import pytest
import torch
from scipy.stats import binom

from mcld.data import Batch
from mcld.errors import InputError
from mcld.evaluation import Accuracy
from mcld.teacher import LiveTeacher, check_order, check_teacher, order_warning
from mcld.teacher.check import guessing_does, number_order


def accuracy(balanced: float, *, top1: float = 0.9, classes: int = 10, count: int = 1000) -> Accuracy:
    return Accuracy(top1=top1, top5=1.0, balanced=balanced, loss=1.0, agreement=None, count=count, classes=classes)


def test_a_teacher_near_chance_is_refused_with_the_likely_causes() -> None:
    with pytest.raises(
        InputError, match=r"near chance.*11\.0%, guessing gives 10\.0%.*checkpoint.*normalisation.*class order"
    ):
        check_teacher("t", accuracy(0.11, top1=0.11))
    check_teacher("t", accuracy(0.11, top1=0.11), allow_near_chance=True)
    check_teacher("t", accuracy(0.2, top1=0.2))


def test_always_naming_the_most_common_class_is_chance() -> None:
    with pytest.raises(InputError, match="near chance"):
        check_teacher("t", accuracy(0.5, top1=0.95, classes=2))


def test_a_swapped_class_order_is_found() -> None:
    with pytest.raises(InputError, match="near chance"):
        check_teacher("t", accuracy(0.04, top1=0.04, classes=2))


def test_the_live_teacher_is_frozen_and_in_evaluation_mode() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))
    teacher = LiveTeacher(network)
    before = network[1].running_mean.clone()  # type: ignore[operator]
    zeros = torch.zeros(5, dtype=torch.int64)
    outputs = teacher(Batch(zeros, zeros, torch.rand(5, 1, 2, 2), zeros))
    assert outputs.logits.shape == (5, 3)
    assert not outputs.logits.requires_grad
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(network[1].running_mean, before)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("balanced", "classes", "count", "good"),
    [
        (19 / 24, 2, 24, True),  # by luck once in 303 times
        (16 / 24, 2, 24, False),  # once in 13
        (1.0, 2, 7, True),  # once in 128
        (1.0, 2, 9, True),
        (1.0, 10, 2, True),
        (0.12, 10, 1000, False),  # 2.1 standard errors
        (0.13, 10, 1000, True),
        (0.0125, 100, 10000, True),
        (0.0110, 100, 10000, False),
    ],
)
def test_few_images_are_judged_by_how_likely_luck_is(balanced: float, classes: int, count: int, good: bool) -> None:
    given = accuracy(balanced, classes=classes, count=count)
    if good:
        check_teacher("t", given)
        return
    with pytest.raises(InputError, match="near chance"):
        check_teacher("t", given)


def test_too_few_images_are_named_as_the_cause() -> None:
    with pytest.raises(
        InputError, match=r"causes: too few validation images \(24: guessing does as well once in 13 times\)"
    ):
        check_teacher("t", accuracy(16 / 24, classes=2, count=24))
    with pytest.raises(
        InputError, match=r"cannot be told from guessing on 6 validation images: .*expected at least 7 images"
    ):
        check_teacher("t", accuracy(1.0, classes=2, count=6))
    with pytest.raises(InputError, match="knows one class, and there is nothing to tell apart"):
        check_teacher("t", accuracy(1.0, classes=1, count=100))
    with pytest.raises(InputError) as caught:
        check_teacher("t", accuracy(0.1, classes=10, count=10000))
    assert "too few" not in str(caught.value)


def test_luck_is_the_tail_of_the_binomial_distribution() -> None:
    for hits, count, chance in ((19, 24, 0.5), (5, 5, 0.1), (30, 200, 0.1), (1100, 10000, 0.1)):
        assert guessing_does(hits, count, chance) == pytest.approx(binom.sf(hits - 1, count, chance), rel=1e-6)
    assert guessing_does(0, 5, 0.5) == 1.0


def test_numbers_in_the_order_of_text() -> None:
    text = sorted(map(str, range(12)))
    places = number_order(text)
    assert places is not None
    assert [int(name) for name in text] == places
    assert number_order([f"{n:02}" for n in range(12)]) is None
    assert number_order(["0", "1", "x"]) is None
    assert "the order of text (0, 1, 10, 11, …)" in order_warning("teacher t", text)[0]
    assert order_warning("teacher t", ["a", "b"]) == []
    labels = torch.arange(12)
    right = torch.tensor(places)  # what a network names that was trained in the order of numbers
    with pytest.raises(InputError, match=r"right on 16\.7% of the validation images, and would be on 100\.0%"):
        check_order("t", text, right, labels)
    check_order("t", text, right, labels, allow_near_chance=True)
    check_order("t", text, labels, labels)
