"""SDD: regions against a loop, and the networks that it refuses."""

from typing import Any

import pytest
import torch
from tests.reference.logit_methods import kd_value, mean, terms
from tests.reference.nce import Row, Rows
from torch import Tensor

from mcld import InputError, create_method
from mcld.features import Features
from mcld.methods import Outputs, Shapes
from mcld.methods._features import check_average
from mcld.methods.sdd import region_logits
from mcld.models import ModelSpec


def networks(side: int = 8, dtype: torch.dtype = torch.float64) -> tuple[Outputs, Outputs, Tensor]:
    """Outputs of two networks whose classifiers read the average of their last maps, and labels."""
    g = torch.Generator().manual_seed(0)

    def one(channels: int) -> Outputs:
        maps = 2 * torch.randn(4, channels, side, side, generator=g, dtype=torch.float64)
        weight, bias = torch.randn(3, channels, generator=g).double(), torch.randn(3, generator=g).double()
        maps, weight, bias = maps.to(dtype), weight.to(dtype), bias.to(dtype)
        pooled = maps.mean(dim=(2, 3))
        return Outputs(pooled @ weight.T + bias, pooled, (maps,), (weight, bias))

    return one(5), one(7), torch.tensor([0, 1, 2, 0])


def regions(outputs: Outputs, grid: int) -> list[Rows]:
    """The logits of each region and image, cell by cell, for maps whose side is a multiple of 4."""
    assert outputs.classifier is not None
    weight, bias = outputs.classifier
    assert bias is not None
    maps = outputs.maps[-1].tolist()
    side = len(maps[0][0])
    found = []
    for scale in (1, 2, 4)[: {1: 1, 2: 2, 4: 3}[grid]]:
        size = side // scale
        for top in range(0, side, size):
            for left in range(0, side, size):
                rows: Rows = []
                for image in maps:
                    averages: Row = [
                        mean([row[x] for row in channel[top : top + size] for x in range(left, left + size)])
                        for channel in image
                    ]
                    rows.append(
                        [
                            b + sum(w * a for w, a in zip(ws, averages, strict=True))
                            for ws, b in zip(weight.tolist(), bias.tolist(), strict=True)
                        ]
                    )
                found.append(rows)
    return found


@pytest.mark.parametrize("grid", [1, 2, 4])
def test_equals_the_loop(grid: int) -> None:
    s, t, y = networks()
    ours, theirs = regions(s, grid), regions(t, grid)
    values, contradictions = [], 0
    for a, b in zip(ours, theirs, strict=True):
        for i, label in enumerate(y.tolist()):
            right, whole = b[i].index(max(b[i])) == label, theirs[0][i].index(max(theirs[0][i])) == label
            contradictions += right != whole
            values.append((3.0 if right != whole else 1.0) * kd_value([a[i]], [b[i]], 2.0))
    assert (contradictions > 0) is (grid > 1)
    found = create_method("sdd", grid=grid, complementary=3.0, options={"temperature": 2.0, "weight": 0.5})(s, t, y)
    assert found["kl"].item() == pytest.approx(0.5 * mean(values), rel=1e-12)


def test_of_dkd() -> None:
    s, t, y = networks()
    options = {"temperature": 3.0, "alpha": 1.0, "beta": 2.0, "warmup": 4.0, "standardize": False}
    rows = [
        terms("dkd", [(a, b)], y.tolist(), options, 8, 0.2) for a, b in zip(regions(s, 2), regions(t, 2), strict=True)
    ]
    method = create_method("sdd", of="dkd", grid=2, complementary=1.0, options=options)
    method.prepare(Shapes(3, 5, ((5, 8, 8),)), Shapes(3, 7, ((7, 8, 8),)), 10, epochs=8)
    found = method(s, t, y, 0.2)
    for name in ("target", "nontarget"):
        assert found[name].item() == pytest.approx(mean([row[name] for row in rows]), rel=1e-12)


def test_one_region_is_the_other_method() -> None:
    s, t, y = networks()
    torch.testing.assert_close(create_method("sdd", grid=1)(s, t, y), create_method("kd")(s.logits, t.logits, y))


@pytest.mark.parametrize("side", [1, 2, 7])
def test_maps_of_any_size(side: int) -> None:
    maps = torch.randn(2, 3, side, side, dtype=torch.float64)
    found = region_logits(maps, torch.eye(3, dtype=torch.float64), None, 4)
    assert found.shape == (21, 2, 3)
    if side < 4:
        torch.testing.assert_close(found[0], maps.mean(dim=(2, 3)))


def test_gradient_reaches_maps_and_classifier() -> None:
    s, t, y = networks(4)
    assert s.classifier is not None
    leaves = [x.clone().requires_grad_() for x in (s.maps[0], s.classifier[0], s.classifier[1]) if x is not None]

    def loss(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        method = create_method("sdd", grid=2)
        method.check_values = False
        pooled = maps.mean(dim=(2, 3))
        kl: Tensor = method(Outputs(pooled @ weight.T + bias, pooled, (maps,), (weight, bias)), t, y)["kl"]
        return kl

    assert torch.autograd.gradcheck(loss, tuple(leaves), fast_mode=True)


def scaled(outputs: Outputs, factor: float, dtype: torch.dtype) -> Outputs:
    assert outputs.pooled is not None
    assert outputs.classifier is not None
    maps = (factor * outputs.maps[0]).to(dtype)
    weight, bias = (None if x is None else x.to(dtype) for x in outputs.classifier)
    assert weight is not None
    return Outputs((factor * outputs.logits).to(dtype), maps.mean(dim=(2, 3)), (maps,), (weight, bias))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("of", ["kd", "dkd", "nkd"])
def test_extremes(of: str, dtype: torch.dtype) -> None:
    s, t, y = networks()
    for a, b in ((1e4, 1e4), (1e4, 0.0), (0.0, 1e4), (1.0, 1.0)):
        student, teacher = scaled(s, a, dtype), scaled(t, b, dtype)
        student.maps[0].requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            method = create_method("sdd", of=of)
            method.prepare(Shapes(3, 5, ((5, 8, 8),)), Shapes(3, 7, ((7, 8, 8),)), 4, epochs=240)
            found = method(student, teacher, y, 0.5)
        value = torch.stack(list(found.values())).sum()
        assert value.isfinite()
        assert torch.autograd.grad(value, student.maps[0])[0].isfinite().all()


def test_order_of_images_and_one_image() -> None:
    s, t, y = networks()
    order = torch.tensor([2, 0, 3, 1])

    def taken(outputs: Outputs, rows: Tensor) -> Outputs:
        assert outputs.pooled is not None
        return Outputs(outputs.logits[rows], outputs.pooled[rows], (outputs.maps[0][rows],), outputs.classifier)

    method = create_method("sdd")
    before = method(s, t, y)["kl"]
    torch.testing.assert_close(method(taken(s, order), taken(t, order), y[order])["kl"], before)
    alone = [method(taken(s, torch.tensor([i])), taken(t, torch.tensor([i])), y[i : i + 1])["kl"] for i in range(4)]
    torch.testing.assert_close(torch.stack(alone).mean(), before)


def test_networks_that_do_not_average_their_last_maps() -> None:
    s, t, y = networks()
    assert s.pooled is not None
    token = s._replace(pooled=s.pooled + 1.0)
    with pytest.raises(
        InputError, match=r"the student's classifier does not read the average of its last maps \(4, 5, 8"
    ):
        create_method("sdd")(token, t, y)
    with pytest.raises(InputError, match=r"teacher maps end with \(6, 8, 8\); sdd expects \(7, h, w\)"):
        create_method("sdd").prepare(Shapes(3, 5, ((5, 8, 8),)), Shapes(3, 7, ((6, 8, 8),)), 10, 10)


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("resnet8", None),
        ("vgg8", None),
        ("ShuffleV1", None),
        ("ResNet18", None),
        ("MobileNetV1", None),
        ("wrn_16_1", ["relu"]),
        ("ShuffleV2", ["relu"]),
        ("MobileNetV2", ["conv2"]),
    ],
)
def test_networks_of_the_zoo(name: str, maps: list[str] | None) -> None:
    network = ModelSpec(name, 3, 3, mean=[0.5] * 3, std=[0.5] * 3, image_size=[32, 32]).build()
    features = Features(network.eval(), create_method("sdd").needs, maps=maps)
    with torch.no_grad():
        outputs = features(torch.rand(2, 3, 32, 32))
    check_average(create_method("sdd"), "student", outputs)
    if maps is not None:
        outputs = Features(network, create_method("sdd").needs)(torch.rand(2, 3, 32, 32))
        with pytest.raises(InputError, match="does not read the average of its last maps"):
            check_average(create_method("sdd"), "student", outputs)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"complementary": -1}, "complementary is -1; expected a number of at least 0"),
    ({"grid": 8}, "grid is 8; expected 1, 2 or 4"),
    ({"grid": True}, "grid is True; expected 1, 2 or 4"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_method("sdd", **options)
