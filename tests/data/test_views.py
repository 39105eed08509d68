import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from mcld.data import CropFlip, SeedViews
from mcld.data.policies import hashed
from mcld.data.views import to_picture, to_pixels
from mcld.errors import InputError

cases = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 4), st.booleans(), st.integers(0, 2**31))


@given(cases)
@settings(max_examples=60, deadline=None)
def test_whole_batch_equals_slicing_and_torchvision(case: tuple[int, int, int, bool, int]) -> None:
    height, width, padding, flip, seed = case
    views = CropFlip((height, width), padding, flip)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (5, 3, height, width), generator=generator, dtype=torch.uint8)
    index, view = torch.randint(5, (17,), generator=generator), views.sample(17, generator)
    assert views.count == (2 * padding + 1) ** 2 * (2 if flip else 1)
    assert 0 <= view.min() <= view.max() < views.count
    padded = views.pad(images)
    result = views.apply(padded, index, view)
    assert result.dtype is torch.uint8
    assert result.is_contiguous()
    span = 2 * padding + 1
    for row, i, v in zip(result, index.tolist(), view.tolist(), strict=True):
        corner, flipped = (v // 2, v % 2 == 1) if flip else (v, False)
        dy, dx = corner // span, corner % span
        assert views.encode(dy, dx, flipped) == v
        sliced = padded[i, :, dy : dy + height, dx : dx + width]
        assert torch.equal(row, sliced.flip(2) if flipped else sliced)
        cropped = V.crop(V.pad(images[i], [padding]), dy, dx, height, width)
        assert torch.equal(row, V.horizontal_flip(cropped) if flipped else cropped)


def test_the_field_recipe_has_162_views_all_drawn() -> None:
    views = CropFlip((32, 32), 4, True)
    assert views.count == 162
    assert views.description == "crop 32, padding 4, horizontal flip"
    assert len(set(views.sample(5000, torch.Generator().manual_seed(0)).tolist())) == 162
    assert CropFlip((28, 20), 2, False).description == "crop 28x20, padding 2"


@pytest.mark.parametrize(("padding", "flip"), [(0, False), (0, True), (3, False), (4, True)])
def test_the_center_is_the_image_itself(padding: int, flip: bool) -> None:
    views = CropFlip((6, 7), padding, flip)
    images = torch.randint(0, 256, (4, 1, 6, 7), dtype=torch.uint8)
    assert torch.equal(views.apply(views.pad(images), torch.arange(4), torch.full((4,), views.center)), images)


@pytest.mark.parametrize(("padding", "flip"), [(4, True), (4, False), (1, True), (3, False)])
def test_a_pool_holds_some_of_the_views_of_each_image(padding: int, flip: bool) -> None:
    whole = CropFlip((6, 7), padding, flip)
    assert whole.count is not None
    pool = whole.count // 2
    views = replace(whole, pool=pool)
    assert (views.count, views.center) == (pool, -1)
    assert views.description == f"{whole.description}, {pool} views per image (approximation)"
    assert set(views.sample(50 * pool, torch.Generator().manual_seed(0)).tolist()) == set(range(pool))
    images = torch.randint(0, 256, (20, 1, 6, 7), dtype=torch.uint8)
    padded = views.pad(images)
    everything = [whole.apply(padded, torch.arange(20), torch.full((20,), v)) for v in range(whole.count)]
    pooled = [views.apply(padded, torch.arange(20), torch.full((20,), v)) for v in range(pool)]
    ids = [[[torch.equal(own[i], view[i]) for view in everything].index(True) for own in pooled] for i in range(20)]
    assert all(len(set(own)) == pool for own in ids)  # of one image, no view twice
    assert len({tuple(own) for own in ids}) > 10  # and other images have others
    shuffled = torch.tensor([7, 3])
    assert torch.equal(views.apply(padded, shuffled, torch.tensor([1, 0])), torch.stack([pooled[1][7], pooled[0][3]]))
    assert torch.equal(views.apply(padded, torch.arange(20), torch.full((20,), -1)), images)


def test_the_views_of_a_pool_never_change() -> None:
    """Stored logits of them would be wrong."""
    assert hashed(torch.tensor([0, 1, 50_000, 2**32 - 1])).tolist() == [0, 824515495, 2491260068, 539527247]
    whole, pooled = CropFlip((8, 8), 4, True), CropFlip((8, 8), 4, True, pool=4)
    padded = whole.pad(torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8))
    index = torch.ones(4, dtype=torch.int64)
    ids = torch.tensor([(824515495 + 101 * i) % 162 for i in range(4)])
    assert torch.equal(pooled.apply(padded, index, torch.arange(4)), whole.apply(padded, index, ids))


def test_the_hash_is_spread_evenly() -> None:
    counts = torch.bincount(hashed(torch.arange(162_000)) % 162, minlength=162)
    assert counts.min() > 850
    assert counts.max() < 1150


@pytest.mark.parametrize(
    ("views", "words"),
    [
        (CropFlip((4, 4), 1, True), "pool is 19; expected at most the 18 views that each image has"),
        (CropFlip((4, 4), 1, True), "pool is 0; expected at least 1 view per image"),
        (CropFlip((4, 4), 0, False), "pool is 2; expected at most the 1 views"),
        (SeedViews(24, 27, random=False), "pool is 2; expected at most the 1 views"),
    ],
)
def test_a_pool_that_cannot_be(views: CropFlip | SeedViews, words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(views, pool=int(words.split()[2].strip(";")))


@pytest.mark.parametrize("policy", ["trivial", "rand", "fixmatch"])
@pytest.mark.parametrize("pool", [None, 5])
def test_a_view_with_a_policy_depends_on_index_and_id_alone(policy: str, pool: int | None) -> None:
    views = CropFlip((12, 9), 2, policy=policy, pool=pool)
    words = "" if pool is None else ", 5 views per image (approximation)"
    assert views.description == f"crop 12x9, padding 2, horizontal flip, {policy} augment{words}"
    assert (views.count, views.center) == (pool, -1)
    images = torch.randint(0, 256, (30, 3, 12, 9), dtype=torch.uint8)
    padded, index = views.pad(images), torch.arange(30)
    ids = views.sample(30, torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    shown = views.apply(padded, index, ids)
    assert torch.equal(torch.get_rng_state(), before)
    assert shown.dtype is torch.uint8
    assert torch.equal(views.apply(padded, index, torch.full((30,), -1)), images)
    for row in (3, 17):  # alone as in company
        assert torch.equal(views.apply(padded, index[[row]], ids[[row]])[0], shown[row])
    changed = views.apply(padded, index, ids + 1)
    assert sum(torch.equal(a, b) for a, b in zip(shown, changed, strict=True)) < 3


def picture(seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("policy", ["none", "trivial", "rand", "fixmatch"])
def test_a_seed_view_depends_on_index_and_id_alone(policy: str) -> None:
    views = SeedViews(24, 27, policy=policy)
    torch.manual_seed(1)
    first = views.render(picture(), 3, 12345)
    torch.manual_seed(2)
    torch.rand(7)
    assert torch.equal(views.render(picture(), 3, 12345), first)
    assert first.shape == (3, 24, 24)
    assert first.dtype is torch.uint8
    assert not torch.equal(views.render(picture(), 3, 12346), first)
    assert not torch.equal(views.render(picture(), 4, 12345), first)


def test_a_random_view_is_close_to_pillows() -> None:
    """The same crop, resized by Pillow: the kernels round differently, by no more than 1 on smooth images."""
    smooth = picture().resize((150, 130), Image.Resampling.BICUBIC)
    views = SeedViews(48, 54)
    ours = views.render(smooth, 3, 77).int()
    transform = v2.Compose([v2.RandomResizedCrop(48, scale=(0.35, 1.0)), v2.RandomHorizontalFlip()])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(hashlib.sha256(b"3/77").digest()[:8], "little") >> 1)
        theirs = V.pil_to_tensor(transform(smooth)).int()
    assert (ours - theirs).abs().max() <= 1
    assert torch.equal(views.render(to_pixels(smooth), 3, 77).int(), ours)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_and_pictures(mode: str) -> None:
    image = picture().convert(mode)
    pixels = to_pixels(image)
    assert torch.equal(pixels, V.pil_to_tensor(image))
    assert to_picture(pixels).tobytes() == image.tobytes()
    views = SeedViews(24, 27, mode)
    assert torch.equal(views.render(pixels, 5, -1), views.render(image, 5, -1))


def test_rendering_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    SeedViews(24, 27).render(picture(), 0, 9)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_plain_view_is_resize_and_central_crop() -> None:
    views = SeedViews(24, 27)
    expected = V.pil_to_tensor(V.center_crop(V.resize(picture(), [27]), [24]))
    assert views.center == -1
    assert torch.equal(views.render(picture(), 5, views.center), expected)
    fixed = SeedViews(24, 27, random=False)
    assert (fixed.count, fixed.center) == (1, 0)
    assert torch.equal(fixed.render(picture(), 5, 0), expected)


def test_descriptions_and_pools_of_seeds() -> None:
    views = SeedViews(224, 256, scale=0.08, policy="trivial", pool=8)
    assert views.description == (
        "random resized crop 224 of area 0.08 to 1 from 915, horizontal flip, trivial augment, "
        "8 views per image (approximation); resize 256, center crop 224, RGB"
    )
    assert SeedViews(24, 27, "L", random=False).description == "resize 27, center crop 24, L"
    assert views.count == 8
    assert set(views.sample(500, torch.Generator().manual_seed(0)).tolist()) == set(range(8))
    drawn = SeedViews(24, 27).sample(500, torch.Generator().manual_seed(0))
    assert drawn.min() >= 0
    assert len(set(drawn.tolist())) == 500


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"scale": 0.0}, "scale is 0.0"), ({"policy": "auto"}, "policy is 'auto'"), ({"pool": 0}, "pool is 0")],
)
def test_wrong_seed_views(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SeedViews(24, 27, **wrong)  # type: ignore[arg-type]
