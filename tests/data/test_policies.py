"""The operations against torchvision's; what is drawn."""

import math
from collections.abc import Callable

import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from mcld.data import load_data, policies
from mcld.data.policies import (
    BINS,
    NUMBERS,
    OPERATIONS,
    SQUARE,
    apply_operations,
    apply_policy,
    cut_out,
    draws,
    row_of,
    table,
)
from mcld.errors import InputError

SIZE = (33, 40)
CPU = torch.device("cpu")


def photos(channels: int = 3) -> Tensor:
    """Smooth images of different contrast, (4, channels, 33, 40)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, channels, 7, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic", align_corners=False).clamp(0, 1)
    return (smooth * torch.tensor([255.0, 200, 90, 0])[:, None, None, None] + 20).clamp(0, 255).to(torch.uint8)


def shear(x: float, y: float) -> Callable[[Tensor], Tensor]:
    degrees = [float(torch.tensor(v, dtype=torch.float64).atan().rad2deg()) for v in (x, y)]
    return lambda images: V.affine(images, 0.0, [0, 0], 1.0, degrees, center=[0, 0])


def expected(operation: str, policy: str, level: int, sign: int) -> Callable[[Tensor], Tensor]:
    """torchvision's operation at a strength, with the ranges of its TrivialAugmentWide or RandAugment."""
    wide, share = policy == "trivial", level / 30
    amount = sign * share * (0.99 if wide else 0.9)
    far = [int(sign * share * (32 if wide else 150 / 331 * side)) for side in SIZE]
    sheared = sign * share * (0.99 if wide else 0.3)
    operations: dict[str, Callable[[Tensor], Tensor]] = {
        "identity": lambda images: images,
        "shear x": shear(sheared, 0),
        "shear y": shear(0, sheared),
        "translate x": lambda images: V.affine(images, 0.0, [far[1], 0], 1.0, [0, 0]),
        "translate y": lambda images: V.affine(images, 0.0, [0, far[0]], 1.0, [0, 0]),
        "rotate": lambda images: V.rotate(images, sign * share * (135 if wide else 30)),
        "brightness": lambda images: V.adjust_brightness(images, 1 + amount),
        "color": lambda images: V.adjust_saturation(images, 1 + amount),
        "contrast": lambda images: V.adjust_contrast(images, 1 + amount),
        "sharpness": lambda images: V.adjust_sharpness(images, 1 + amount),
        "posterize": lambda images: V.posterize(images, round(8 - share * (6 if wide else 4))),
        "solarize": lambda images: V.solarize(images, 255 * (1 - share)),
        "autocontrast": V.autocontrast,
        "equalize": V.equalize,
    }
    return operations[operation]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("policy", ["trivial", "rand"])
def test_each_operation_is_torchvisions(policy: str, operation: str) -> None:
    """Values may differ by 1, and a few pixels of a thousand come from their neighbour, where sums are rounded."""
    moves = operation.split()[0] in ("shear", "translate", "rotate")
    for channels in (1, 3):
        images = photos(channels)
        for level in (0, 1, 7, 9, 16, 23, 29, 30):
            for sign in (1, -1):
                row = row_of(torch.tensor(OPERATIONS.index(operation)), torch.tensor(level), torch.tensor(sign < 0))
                got = apply_operations(images, row.expand(4), table(policy, SIZE, CPU))
                want = expected(operation, policy, level, sign)(images)
                difference = (got.int() - want.int()).abs()
                assert got.dtype is torch.uint8
                if moves:
                    assert (difference > 0).float().mean() < 0.005, (level, sign)
                else:
                    assert difference.max() <= 1, (level, sign)


def fixmatch(operation: str, level: int, sign: int) -> Callable[[Image.Image], Image.Image]:
    """Pillow's operation at a strength, with the ranges of FixMatch's codes."""
    share = (level + 0.5) / 31
    dark = 0.05 + 0.9 * share
    height, width = SIZE
    part = sign * 0.3 * share

    def moved(*matrix: float) -> Callable[[Image.Image], Image.Image]:
        return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix)

    operations: dict[str, Callable[[Image.Image], Image.Image]] = {
        "identity": lambda image: image,
        "shear x": moved(1, part, 0, 0, 1, 0),
        "shear y": moved(1, 0, 0, part, 1, 0),
        "translate x": moved(1, 0, -part * width, 0, 1, 0),
        "translate y": moved(1, 0, 0, 0, 1, -part * height),
        "rotate": lambda image: image.rotate(sign * 30 * share),
        "brightness": lambda image: ImageEnhance.Brightness(image).enhance(dark),
        "color": lambda image: ImageEnhance.Color(image).enhance(dark),
        "contrast": lambda image: ImageEnhance.Contrast(image).enhance(dark),
        "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(dark),
        "posterize": lambda image: ImageOps.posterize(image, int(4 + 4 * share)),
        "solarize": lambda image: ImageOps.solarize(image, math.ceil(256 * share)),
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
    }
    return operations[operation]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_of_fixmatch_is_pillows(operation: str) -> None:
    """Values may differ by 1 (2 where Pillow rounds a mean), and a few pixels of a thousand by a neighbour's."""
    images = photos()
    moves = operation.split()[0] in ("shear", "translate", "rotate")
    for level in (0, 7, 15, 16, 23, 30):
        for sign in (1, -1):
            row = row_of(torch.tensor(OPERATIONS.index(operation)), torch.tensor(level), torch.tensor(sign < 0))
            got = apply_operations(images, row.expand(4), table("fixmatch", SIZE, CPU))
            change = fixmatch(operation, level, sign)
            want = torch.stack([V.pil_to_tensor(change(V.to_pil_image(image))) for image in images])
            difference = (got.int() - want.int()).abs()
            if moves:
                assert (difference > 0).float().mean() < 0.005, (level, sign)
            else:
                assert difference.max() <= 2, (level, sign)


def test_the_square_of_fixmatch_is_pillows() -> None:
    images, n = photos()[[0, 1, 2] * 100], 300
    height, width = SIZE
    numbers = draws(torch.arange(n), torch.zeros(n, dtype=torch.int64), 3)
    plain = torch.arange(n) == 7
    got = cut_out(images, numbers, plain)
    assert torch.equal(got[7], images[7])
    for i in (0, 1, 2, 3, 50, 299):
        side, across, down = (numbers[:, i].double() / 2**32 * torch.tensor([width / 2, width, height])).tolist()
        x, y = int(max(0, across - side / 2)), int(max(0, down - side / 2))
        image = V.to_pil_image(images[i])
        ImageDraw.Draw(image).rectangle((x, y, min(width, x + side), min(height, y + side)), SQUARE)
        assert torch.equal(got[i], V.pil_to_tensor(image)), i
    filled = (got == torch.tensor(SQUARE)[:, None, None]).all(1).float().mean((1, 2))
    assert filled.max() <= 21 * 21 / (33 * 40)
    assert 0.05 < filled.mean() < 0.09  # even sides up to 20 pixels, less what lies outside
    grey = cut_out(photos(1)[[0]], numbers[:, :1], plain[:1])
    assert (grey == SQUARE[1]).any()


def test_all_at_once_is_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of accelerators, where nothing is picked out."""
    rows = torch.arange(0, len(OPERATIONS) * BINS * 2, 37)
    images = photos()[torch.arange(len(rows)) % 4]
    meaning = table("trivial", SIZE, CPU)
    alone = torch.cat([apply_operations(images[[i]], rows[[i]], meaning) for i in range(len(rows))])
    assert torch.equal(apply_operations(images, rows, meaning), alone)
    monkeypatch.setattr(policies, "picks", lambda device: False)
    assert torch.equal(apply_operations(images, rows, meaning), alone)


def test_draws_are_even_and_never_change() -> None:
    """Stored logits of views would be wrong."""
    index, view = torch.arange(40_000) % 200, torch.arange(40_000) // 200
    numbers = draws(index, view, 3)
    assert numbers.min() >= 0
    assert numbers.max() < 2**32
    for row in numbers:
        counts = torch.bincount(row % len(OPERATIONS), minlength=len(OPERATIONS))
        assert (counts - 40_000 / 14).abs().max() < 250
    assert len(set(numbers.flatten().tolist())) > 0.99 * numbers.numel()
    both = torch.stack([numbers[0] % 14, numbers[1] % 14])
    assert torch.corrcoef(both.double())[0, 1].abs() < 0.02
    big = torch.tensor([2**61 + 5, 5])
    assert draws(torch.tensor([3, 3]), big, 2).tolist() == [[1866627776, 134305132], [1811369588, 3729840952]]


@pytest.mark.parametrize(("policy", "rounds"), [("trivial", 1), ("rand", 2), ("fixmatch", 2)])
def test_a_policy_is_so_many_operations(policy: str, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def watched(images: Tensor, rows: Tensor, meaning: policies.Table) -> Tensor:
        seen.append(rows)
        return apply_operations(images, rows, meaning)

    monkeypatch.setattr(policies, "apply_operations", watched)
    index = torch.arange(5000)
    plain = index < 3
    images = photos()[:1].expand(5000, -1, -1, -1)[:, :, :4, :4].contiguous()
    shown = apply_policy(policy, images, draws(index, torch.zeros_like(index), NUMBERS), plain)
    assert torch.equal(shown[:3], images[:3])
    assert len(seen) == rounds
    for rows in seen:
        assert rows[:3].tolist() == [0, 0, 0]
        operation, level = rows[3:] // (2 * BINS), rows[3:] // 2 % BINS
        assert set(operation.tolist()) == set(range(14))
        assert set(level.tolist()) == ({9} if policy == "rand" else set(range(31)))
        assert 0.45 < (rows[3:] % 2).double().mean() < 0.55


def test_tiny_and_grey_images_go_through_everything() -> None:
    rows = torch.arange(0, len(OPERATIONS) * BINS * 2, 11)
    for shape in ((1, 1, 1), (3, 2, 5), (1, 8, 8)):
        images = torch.randint(0, 256, (len(rows), *shape), dtype=torch.uint8)
        assert apply_operations(images, rows, table("trivial", shape[1:], CPU)).shape == images.shape


def test_a_data_set_with_a_policy() -> None:
    train = load_data("digits", policy="trivial").train
    assert train.views.description == "crop 8, padding 1, trivial augment"
    assert load_data("digits", policy="trivial").val.views.description == "crop 8, padding 0"
    index = torch.arange(50)
    shown = train.images(index, train.views.sample(50, torch.Generator().manual_seed(0)))
    assert (shown != load_data("digits", augment=False).train.images(index, torch.zeros_like(index))).any()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"policy": "auto"},
            "data set 'digits': option 'policy' is 'auto'; expected one of none, trivial, rand, fixmatch",
        ),
        ({"second_policy": "weak"}, "option 'second_policy' is 'weak'; expected one of none, trivial, rand, fixmatch"),
        ({"second_policy": "rand", "augment": False}, "option 'second_policy' is 'rand' and 'augment' is false"),
        (
            {"policy": "rand", "augment": False},
            "option 'policy' is 'rand' and 'augment' is false; expected policy 'none'",
        ),
    ],
)
def test_policies_that_cannot_be(given: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_data("digits", **given)
