import gc
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mcld.data import Batch, CropFlip, FileSplit, TensorSplit, TrainLoader, eval_batches, load_data
from mcld.errors import InputError


def split(n: int = 50) -> TensorSplit:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 6, 6), generator=generator, dtype=torch.uint8)
    return TensorSplit(images, torch.arange(n) % 5, CropFlip((6, 6), 2))


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one[:4], two[:4], strict=True)
    )


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    loader = TrainLoader(split(), 8, seed=1)
    assert loader.steps_per_epoch == 7
    first, second = list(loader.epoch(0)), list(loader.epoch(1))
    assert [len(batch.label) for batch in first] == [8] * 6 + [2]
    orders = [torch.cat([batch.index for batch in epoch]) for epoch in (first, second)]
    assert all(order.sort().values.tolist() == list(range(50)) for order in orders)
    assert not torch.equal(*orders)
    assert not torch.equal(orders[0], torch.cat([b.index for b in TrainLoader(split(), 8, seed=2).epoch(0)]))
    for batch in first:
        assert torch.equal(batch.image, split().images(batch.index, batch.view))
        assert torch.equal(batch.label, split().labels[batch.index])


def test_an_epoch_goes_on_where_it_stopped() -> None:
    whole = list(TrainLoader(split(), 8, seed=1).epoch(3))
    for start in range(8):
        assert same(list(TrainLoader(split(), 8, seed=1).epoch(3, start)), whole[start:])


def test_the_plan_uses_no_global_random_numbers() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = list(TrainLoader(split(), 8, seed=1).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert same(list(TrainLoader(split(), 8, seed=1).epoch(0)), first)


@pytest.mark.parametrize(
    ("n", "world", "sizes"), [(53, 2, [8] * 6 + [4]), (48, 4, [8] * 6), (49, 4, [8] * 6), (54, 2, [8] * 6 + [6])]
)
def test_ranks_share_each_batch_in_order(n: int, world: int, sizes: list[int]) -> None:
    ranks = [list(TrainLoader(split(n), 8, seed=1, rank=rank, world=world).epoch(0)) for rank in range(world)]
    alone = list(TrainLoader(split(n), 8, seed=1).epoch(0))
    assert [sum(len(rank[s].index) for rank in ranks) for s in range(len(ranks[0]))] == sizes
    for step, size in enumerate(sizes):
        joined = [torch.cat(parts) for parts in zip(*(rank[step][:4] for rank in ranks), strict=True)]
        assert all(torch.equal(a, b[:size]) for a, b in zip(joined, alone[step][:4], strict=True))


@pytest.mark.parametrize(("n", "batch", "world"), [(50, 8, 2), (51, 8, 2), (50, 8, 4), (1347, 64, 2), (3, 8, 2)])
def test_several_processes_make_as_many_steps_as_one(n: int, batch: int, world: int) -> None:
    """Where the last batch has too few images for all, some are shown again, all of them at least once."""
    alone = TrainLoader(split(n), batch, seed=1)
    ranks = [TrainLoader(split(n), batch, seed=1, rank=rank, world=world) for rank in range(world)]
    assert {loader.steps_per_epoch for loader in ranks} == {alone.steps_per_epoch}
    last = [loader.chunks(0)[-1] for loader in ranks]
    assert [len(index) for index, _ in last] == [2] * world
    index, view = (torch.cat(parts) for parts in zip(*last, strict=True))
    wanted_index, wanted_view = alone.chunks(0)[-1]
    wanted = list(zip(wanted_index.tolist(), wanted_view.tolist(), strict=True))
    shown = list(zip(index.tolist(), view.tolist(), strict=True))
    assert shown[: len(wanted)] == wanted
    assert set(shown) == set(wanted)
    assert sum(len(chunk) for loader in ranks for chunk, _ in loader.chunks(0)) == n + ranks[0].repeated


@pytest.mark.parametrize(("n", "steps"), [(49, 6), (50, 7), (48, 6), (8, 1), (7, 1), (2, 1)])
def test_a_last_batch_of_one_image_is_left_out(n: int, steps: int) -> None:
    loader = TrainLoader(split(n), 8, seed=0)
    assert (loader.steps_per_epoch, len(list(loader.epoch(0)))) == (steps, steps)


def test_batches_that_cannot_be_made() -> None:
    with pytest.raises(InputError, match=r"there are 1 training images; expected at least 2"):
        TrainLoader(split(1), 8, seed=0, world=2)
    with pytest.raises(InputError, match=r"batch_size is 9; expected a multiple of 2 and at least 4"):
        TrainLoader(split(), 9, seed=0, world=2)
    with pytest.raises(InputError, match=r"batch_size is 1; expected at least 2"):
        TrainLoader(split(), 1, seed=0)
    with pytest.raises(InputError, match="rank is 2 of 2 processes; expected 0 to 1"):
        TrainLoader(split(), 8, seed=0, rank=2, world=2)
    with pytest.raises(InputError, match="views is 0"):
        TrainLoader(split(), 8, seed=0, views=0)


def test_two_views_of_each_image() -> None:
    for batch in TrainLoader(split(), 8, seed=1, views=2).epoch(0):
        size = len(batch.label)
        assert batch.view.shape == (size, 2)
        assert batch.image.shape == (size, 2, 3, 6, 6)
        for v in range(2):
            assert torch.equal(batch.image[:, v], split().images(batch.index, batch.view[:, v]))


def test_a_second_view_of_another_kind() -> None:
    both, plain = split().with_second("trivial"), split()
    batches = list(TrainLoader(both, 8, seed=1, views=2).epoch(0))
    assert same(list(TrainLoader(both, 8, seed=1, views=2).epoch(0, 3)), batches[3:])
    for batch in batches:
        assert (batch.view % 2).tolist() == [[0, 1]] * len(batch.label)
        assert torch.equal(batch.image[:, 0], plain.images(batch.index, batch.view[:, 0] // 2))
        for v in range(2):
            assert torch.equal(batch.image[:, v], both.images(batch.index, batch.view[:, v]))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("n", [2, 50])
def test_evaluation_sees_every_image_once_plainly_and_in_order(n: int, world: int) -> None:
    data, seen = split(n), []
    for rank in range(world):
        index = []
        for batch in eval_batches(data, 7, rank=rank, world=world):
            assert torch.equal(batch.image, data.raw[batch.index])
            index += batch.index.tolist()
        assert index == sorted(index)
        seen += index
    assert sorted(seen) == list(range(n))


@pytest.fixture
def folder_split(photos: Path) -> FileSplit:
    train = load_data("folder", path=photos, image_size=24).train
    assert isinstance(train, FileSplit)
    return train


def test_pooled_views_in_workers_and_in_memory(folder_split: FileSplit) -> None:
    pooled = folder_split.with_pool(2)
    assert pooled.fingerprint() == folder_split.fingerprint()
    alone = list(TrainLoader(pooled, 5, seed=1, workers=0).epoch(0))
    assert same(list(TrainLoader(pooled, 5, seed=1, workers=1).epoch(0)), alone)
    for batch in [*alone, *TrainLoader(split().with_pool(2), 8, seed=1).epoch(0)]:
        assert set(batch.view.tolist()) <= {0, 1}
    assert same(list(eval_batches(pooled, 5, workers=0)), list(eval_batches(folder_split, 5, workers=0)))


def test_a_second_view_of_files(folder_split: FileSplit) -> None:
    both = folder_split.with_second("rand")
    assert both.fingerprint() == folder_split.fingerprint()
    weak = folder_split.views.description
    strong = weak.replace("horizontal flip", "horizontal flip, rand augment")
    assert both.views.description == f"{weak}; second view: {strong}"
    alone = list(TrainLoader(both, 5, seed=1, workers=0, views=2).epoch(0))
    assert same(list(TrainLoader(both, 5, seed=1, workers=1, views=2).epoch(0)), alone)
    for batch in alone:
        assert (batch.view % 2).tolist() == [[0, 1]] * len(batch.label)
        assert torch.equal(batch.image[:, 0], folder_split.images(batch.index, batch.view[:, 0] // 2))
    pooled = TrainLoader(both.with_pool(2), 5, seed=1, workers=0, views=2)
    assert {int(view) for batch in pooled.epoch(0) for view in batch.view.flatten()} == {0, 1, 2, 3}


def test_workers_make_the_same_batches(folder_split: FileSplit) -> None:
    alone = TrainLoader(folder_split, 5, seed=1, workers=0)
    helped = TrainLoader(folder_split, 5, seed=1, workers=2)
    before = torch.get_rng_state()
    for epoch, start in ((0, 0), (1, 2)):
        assert same(list(helped.epoch(epoch, start)), list(alone.epoch(epoch, start)))
    next(helped.epoch(0))  # left unfinished
    assert same(list(helped.epoch(0)), list(alone.epoch(0)))
    assert torch.equal(torch.get_rng_state(), before)
    twice = [list(TrainLoader(folder_split, 5, seed=1, workers=w, views=2).epoch(0, 3)) for w in (0, 1)]
    assert same(*twice)
    assert same(list(eval_batches(folder_split, 5, workers=2)), list(eval_batches(folder_split, 5, workers=0)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_goes_later_is_one_clear_line(folder_split: FileSplit, workers: int) -> None:
    split = replace(folder_split, decoded=None)  # with kept pixels nobody would miss it
    gone = Path(split.root) / split.files[3]
    gone.unlink()
    with pytest.raises(InputError) as error:
        list(TrainLoader(split, 5, seed=1, workers=workers).epoch(0))
    assert str(gone) in str(error.value)
    assert "\n" not in str(error.value)


def test_workers_leave_with_their_loader(folder_split: FileSplit) -> None:
    before = set(multiprocessing.active_children())
    loader = TrainLoader(folder_split, 5, seed=1, workers=1)
    list(loader.epoch(0))
    assert set(multiprocessing.active_children()) - before
    gc.disable()  # so that only reference counts can end them: the collector would take seconds
    try:
        del loader
        assert not set(multiprocessing.active_children()) - before
    finally:
        gc.enable()
