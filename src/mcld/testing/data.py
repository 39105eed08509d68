"""What a data set is held to."""

from collections.abc import Callable
from typing import Any

import torch

from mcld.data import DataSet, Split, load_data

ROWS = 12


def check_data(data: str | Callable[[], DataSet], **options: Any) -> None:
    """Check a data set.

    What it says of its images and labels is so; equal ids give equal bits, alone and in company, whatever the random
    state, which stays as it was; other view ids give other images; a validation image has its plain view alone; a pool
    holds as many views as it should; the fingerprint is the same when the data is read again, and tells the two splits
    apart.

    Args:
        data: a name of the registry, or what reads the data.
        **options: of the data set that is named.

    Raises:
        AssertionError: for the first rule that it breaks.
        InputError: when there is no such data set or option, or it cannot be read.
    """

    def read() -> DataSet:
        return load_data(data, **options) if isinstance(data, str) else data()

    first, again = read(), read()
    info = first.info
    assert len(set(info.classes)) == len(info.classes) >= 2, f"its classes are {info.classes}; expected 2 or more names"
    for what, values in (("mean", info.mean), ("std", info.std)):
        assert len(values) == info.channels, (
            f"its {what} is {values}; expected one for each of {info.channels} channels"
        )
    assert min(info.std) > 0, f"its std is {info.std}; expected positive numbers"
    for name, split, other in (("train", first.train, again.train), ("val", first.val, again.val)):
        _check_split(name, split, first)
        own = split.fingerprint()
        assert own, f"the fingerprint of {name} is empty"
        assert own == other.fingerprint(), f"the fingerprint of {name} is another when the data is read again"
        assert torch.equal(split.labels, other.labels), f"the labels of {name} are others when the data is read again"
        index, view = _ids(split, 5)
        same = torch.equal(split.images(index, view), other.images(index, view))
        assert same, f"the views of {name} are others when the data is read again"
    assert first.train.fingerprint() != first.val.fingerprint(), "training and validation images are the same"
    views = first.val.views
    drawn = set(views.sample(ROWS, torch.Generator().manual_seed(0)).tolist())
    assert drawn == {views.center}, f"val shows the views {drawn}; expected the plain view, {views.center}"


def _ids(split: Split, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(len(split), (ROWS,), generator=generator), split.views.sample(ROWS, generator)


def _check_split(name: str, split: Split, data: DataSet) -> None:
    info, labels, views = data.info, split.labels, split.views
    assert len(split) > 0, f"{name} is empty"
    form = f"{labels.dtype} {tuple(labels.shape)}"
    expected_form = f"torch.int64 {(len(split),)}"
    assert form == expected_form, f"the labels of {name} are {form}; expected {expected_form}"
    low, high = int(labels.min()), int(labels.max())
    assert 0 <= low <= high < len(info.classes), (
        f"the labels of {name} range from {low} to {high}; expected 0 to {len(info.classes) - 1}"
    )
    index, view = _ids(split, 0)
    assert torch.equal(_ids(split, 0)[1], view), f"{name} draws other views from the same generator"
    if views.count is not None:
        assert int(view.min()) >= 0, f"{name} draws the view {int(view.min())}; expected 0 or more"
        assert int(view.max()) < views.count, f"{name} draws the view {int(view.max())} of {views.count}"
    assert views.description, f"the views of {name} have no description"
    before = torch.get_rng_state()
    shown = split.images(index, view)
    assert torch.equal(torch.get_rng_state(), before), f"the images of {name} change torch's random state"
    form = f"{shown.dtype} {tuple(shown.shape)}"
    assert shown.dtype is torch.uint8, f"the images of {name} are {form}; expected uint8"
    expected = (ROWS, info.channels, *info.image_size)
    assert tuple(shown.shape) == expected, f"the images of {name} are {form}; expected {expected}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        again = split.images(index, view)
    assert torch.equal(shown, again), f"equal ids give other bits in {name}"
    back = split.images(index.flip(0), view.flip(0)).flip(0)
    alone = torch.cat([split.images(i[None], v[None]) for i, v in zip(index[:3], view[:3], strict=True)])
    assert torch.equal(shown, back), f"an image of {name} depends on its place in the batch"
    assert torch.equal(shown[:3], alone), f"an image of {name} depends on the others of its batch"
    plain = split.images(index, torch.full_like(view, views.center))
    assert torch.equal(plain, split.images(index, torch.full_like(view, views.center))), (
        f"the plain view of {name} varies"
    )
    if views.count != 1:
        others = split.images(index, (view + 1) % (views.count or 2**62))
        assert not torch.equal(others, shown), f"other view ids give the same images in {name}"
        pool = split.with_pool(2)
        drawn = set(pool.views.sample(100, torch.Generator().manual_seed(0)).tolist())
        assert (pool.views.count, drawn) == (2, {0, 1}), f"a pool of 2 views of {name} draws {drawn}"
        kept = pool.images(index, torch.full_like(view, pool.views.center))
        assert torch.equal(kept, plain), f"the plain view of {name} is another in a pool"
