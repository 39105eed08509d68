import pytest
import torch

from mcld.data import CropFlip, TensorSplit, TrainLoader

LABELS = torch.tensor([0] * 3 + [1] * 40 + [3] * 58)


def loader(seed: int = 0) -> TrainLoader:
    images = torch.zeros(len(LABELS), 1, 4, 4, dtype=torch.uint8)
    return TrainLoader(TensorSplit(images, LABELS, CropFlip((4, 4), padding=1)), 16, seed, balanced=True)


def test_every_class_comes_equally_often_and_so_do_its_images() -> None:
    order, view = loader().plan(0)
    assert (order.shape, view.shape) == ((101,), (101, 1))
    counts = LABELS[order].bincount(minlength=4).tolist()
    assert counts[2] == 0
    assert sorted(counts)[1:] == [33, 34, 34]
    for label in (0, 1, 3):
        shown = order.bincount(minlength=101)[label == LABELS]
        assert shown.max() - shown.min() <= 1
    assert set(order[LABELS[order] == 0].tolist()) == {0, 1, 2}


def test_the_plan_follows_from_seed_and_epoch() -> None:
    torch.manual_seed(1)
    first = loader().plan(3)[0]
    torch.manual_seed(2)
    assert torch.equal(loader().plan(3)[0], first)
    assert not torch.equal(loader().plan(4)[0], first)
    assert not torch.equal(loader(seed=1).plan(3)[0], first)
    whole, rest = [batch.index for batch in loader().epoch(1)], [batch.index for batch in loader().epoch(1, start=4)]
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], rest, strict=True))


def test_a_large_class_is_shown_in_turn_over_the_epochs() -> None:
    seen = torch.cat([loader().plan(epoch)[0] for epoch in range(12)])
    assert len(set(seen.tolist())) == len(LABELS)


@pytest.mark.parametrize("batch", [2, 16])
def test_as_many_steps_as_without(batch: int) -> None:
    images = torch.zeros(len(LABELS), 1, 4, 4, dtype=torch.uint8)
    split = TensorSplit(images, LABELS, CropFlip((4, 4), padding=1))
    assert TrainLoader(split, batch, 0, balanced=True).steps_per_epoch == TrainLoader(split, batch, 0).steps_per_epoch
