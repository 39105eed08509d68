import pytest
import torch

from mcld.data import CropFlip, TensorSplit
from mcld.data.memory import channel_stats
from mcld.errors import InputError


def split(padding: int = 1) -> TensorSplit:
    images = torch.arange(6 * 3 * 4 * 4, dtype=torch.uint8).view(6, 3, 4, 4)
    return TensorSplit(images, torch.arange(6), CropFlip((4, 4), padding))


def test_raw_images_and_fingerprint_do_not_depend_on_the_views() -> None:
    assert torch.equal(split(0).raw, split(2).raw)
    assert split(0).fingerprint() == split(2).fingerprint()


def test_the_fingerprint_sees_one_pixel_and_one_label() -> None:
    images, labels, views = split().raw.clone(), torch.arange(6), CropFlip((4, 4), 1)
    images[5, 2, 3, 3] ^= 1
    assert TensorSplit(images, torch.arange(6), views).fingerprint() != split().fingerprint()
    labels[0] = 1
    assert TensorSplit(split().raw, labels, views).fingerprint() != split().fingerprint()


def test_moving_keeps_content() -> None:
    here = split()
    assert here.to("cpu") is here
    there = here.to("meta")
    assert there.device.type == "meta"
    assert (len(there), there.labels.device.type) == (6, "meta")


def test_a_pool_leaves_images_and_fingerprint_as_they_are() -> None:
    whole = split()
    pooled = whole.with_pool(3)
    assert (pooled.views.count, whole.views.count) == (3, 18)
    assert torch.equal(pooled.raw, whole.raw)
    assert pooled.fingerprint() == whole.fingerprint()
    index = torch.arange(6)
    assert torch.equal(pooled.images(index, torch.full((6,), pooled.views.center)), whole.raw)
    with pytest.raises(InputError, match="pool is 19"):
        whole.with_pool(19)


def test_two_kinds_of_views_share_the_images() -> None:
    whole = split()
    both = whole.with_second("rand")
    assert both.views.description == "crop 4, padding 1, horizontal flip; second view: " + (
        "crop 4, padding 1, horizontal flip, rand augment"
    )
    assert (both.views.count, both.views.center, both.with_pool(3).views.count) == (None, -1, 6)
    assert both.fingerprint() == whole.fingerprint()
    strong = CropFlip((4, 4), 1, policy="rand")
    index, ids = torch.tensor([3, 0, 5, 5]), torch.tensor([7, 17, 0, 9])
    assert torch.equal(both.images(index, 2 * ids), whole.images(index, ids))
    assert torch.equal(both.images(index, 2 * ids + 1), TensorSplit(whole.raw, whole.labels, strong).images(index, ids))
    mixed = both.images(index, 2 * ids + torch.tensor([0, 1, 1, 0]))
    assert torch.equal(mixed[::3], whole.images(index, ids)[::3])
    assert torch.equal(both.images(index, torch.full((4,), -1)), whole.raw[index])
    other = TensorSplit(whole.raw, whole.labels, strong).with_second("none")  # the other way round
    assert torch.equal(other.images(index, 2 * ids + 1), whole.images(index, ids))
    assert torch.equal(other.images(index, torch.full((4,), -1)), whole.raw[index])
    generator = torch.Generator().manual_seed(0)
    assert set(both.views.sample(999, generator).tolist()) == set(range(0, 36, 2))
    assert all(view % 2 for view in both.views.sample(99, generator, 1).tolist())
    with pytest.raises(InputError, match="policy is 'strong'; expected one of none, trivial, rand"):
        whole.with_second("strong")


def test_wrong_tensors() -> None:
    views, images = CropFlip((4, 4), 1), torch.zeros(6, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(InputError, match=r"images are torch.float32 .* expected uint8"):
        TensorSplit(images.float(), torch.arange(6), views)
    with pytest.raises(InputError, match=r"labels are torch.int64 \(5,\); expected int64 \(6,\)"):
        TensorSplit(images, torch.arange(5), views)
    with pytest.raises(InputError, match="the views are for"):
        TensorSplit(images[:, :, 1:], torch.arange(6), views)


def test_statistics_are_those_of_the_pixels() -> None:
    images = torch.randint(0, 256, (40, 3, 5, 5), dtype=torch.uint8)
    mean, std = channel_stats(images)
    scaled = images.double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert std == pytest.approx(scaled.std((0, 2, 3), unbiased=False).tolist(), abs=1e-4)
    assert channel_stats(torch.full((3, 1, 2, 2), 51, dtype=torch.uint8)) == ((0.2,), (1.0,))
