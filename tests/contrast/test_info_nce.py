"""The kernel against plain loops, its gradient, its types, and what it refuses."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import nce as reference
from torch import Tensor

from mcld import InputError, info_nce
from mcld.rows import constant_step, differentiable_unit_rows, unit_rows

LOW = [torch.float16, torch.bfloat16]


def random(n: int, N: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Anchors, candidates, targets inside the mask, mask; float64."""
    g = torch.Generator().manual_seed(seed)
    a, z = torch.randn(n, d, generator=g).double(), torch.randn(N, d, generator=g).double()
    mask = torch.rand(n, N, generator=g) < 0.6
    mask[torch.arange(n), torch.randint(N, (n,), generator=g)] = True
    weights = torch.rand(n, N, generator=g).double() * mask * (torch.rand(n, N, generator=g) < 0.7)
    weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, mask.double())
    return a, z, weights / weights.sum(1, keepdim=True), mask


def loop(a: Tensor, z: Tensor, targets: Tensor | None, mask: Tensor | None, tau: float) -> float:
    everything = torch.ones(len(a), len(z))
    targets = torch.eye(len(a), len(z)) if targets is None else targets
    mask = everything.bool() if mask is None else mask
    return reference.info_nce(a.tolist(), z.tolist(), targets.tolist(), mask.tolist(), tau)


@given(n=st.integers(1, 6), N=st.integers(1, 7), d=st.integers(1, 5), tau=st.floats(0.2, 5), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_equals_the_loop(n: int, N: int, d: int, tau: float, seed: int) -> None:
    a, z, targets, mask = random(n, N, d, seed)
    for P, M in ((targets, mask), (targets, None)):
        torch.testing.assert_close(
            info_nce(a, z, P, mask=M, temperature=tau).item(), loop(a, z, P, M, tau), atol=1e-10, rtol=1e-10
        )
    if n <= N:
        mask[torch.arange(n), torch.arange(n)] = True
        for M in (None, mask):
            value = info_nce(a, z, mask=M, temperature=tau).item()
            assert value == pytest.approx(loop(a, z, None, M, tau), rel=1e-10, abs=1e-10)


def test_equals_cross_entropy_over_products() -> None:
    a, z, _, _ = random(5, 8, 3)
    expected = torch.nn.functional.cross_entropy(a @ z.T / 0.7, torch.arange(5))
    torch.testing.assert_close(info_nce(a, z, temperature=0.7), expected)


@pytest.mark.parametrize("N", [1, 2, 7, 100])
def test_uniform_similarities_give_log_n(N: int) -> None:
    z = torch.ones(N, 4).double()
    assert info_nce(z, z, temperature=0.1).item() == pytest.approx(math.log(N), abs=1e-12)
    targets = torch.full((N, N), 1 / N, dtype=torch.float64)
    assert info_nce(z, z, targets, temperature=0.1).item() == pytest.approx(math.log(N), abs=1e-12)


def test_what_is_masked_out_does_not_matter() -> None:
    a, z, targets, mask = random(4, 6, 3)
    mask[:, 5] = False
    targets[:, 5] = 0
    targets = targets / targets.sum(1, keepdim=True)
    other = z.clone()
    other[5] = 100.0
    full = info_nce(a, z, targets, mask=mask, temperature=1.0)
    torch.testing.assert_close(info_nce(a, other, targets, mask=mask, temperature=1.0), full)
    torch.testing.assert_close(info_nce(a, z[:5], targets[:, :5], mask=mask[:, :5], temperature=1.0), full)


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
def test_gradient(with_targets: bool, with_mask: bool) -> None:
    a, z, targets, mask = random(3, 5, 4)
    mask[torch.arange(3), torch.arange(3)] = True
    P, M = targets if with_targets else None, mask if with_mask else None
    a.requires_grad_()
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, z: info_nce(a, z, P, mask=M, temperature=0.5), (a, z))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    a, z, targets, mask = random(6, 9, 5)
    a, z, targets = a.to(dtype).requires_grad_(), z.to(dtype), targets.to(dtype)
    loss = info_nce(a, z, targets, mask=mask, temperature=0.3)
    assert loss.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    torch.autograd.backward(loss)
    assert a.grad is not None
    assert a.grad.dtype is dtype
    rel = 1e-12 if dtype is torch.float64 else 1e-5  # half precision differs in its input only
    assert loss.item() == pytest.approx(loop(a.detach().double(), z.double(), targets.double(), mask, 0.3), rel=rel)


def test_sides_of_different_dtypes() -> None:
    a, z, _, _ = random(4, 4, 3)
    mixed = info_nce(a.bfloat16(), z.float(), temperature=1.0)
    assert mixed.dtype is torch.float32
    torch.testing.assert_close(mixed, info_nce(a.bfloat16().float(), z.float(), temperature=1.0))


@pytest.mark.parametrize("dtype", LOW)
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    a, z, _, _ = random(8, 8, 16)
    a32, z32 = unit_rows(a.float()), unit_rows(z.float())
    plain = info_nce(a32, z32, temperature=0.1)
    with torch.autocast("cpu", dtype=dtype):
        inside = info_nce(a32, z32, temperature=0.1)
        # A network's output in half precision, as it is under autocast: within the range, loss and gradient are finite.
        logits = (100 * a.to(dtype)).requires_grad_()
        loss = info_nce(logits, 100 * z.to(dtype), temperature=0.1)
    assert torch.equal(plain, inside)
    torch.autograd.backward(loss / 1e4)
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_products_stay_finite(dtype: torch.dtype) -> None:
    a = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], dtype=dtype, requires_grad=True)
    loss = info_nce(a, a.detach().flip(0), temperature=0.1)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(4e9, rel=0.01)
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_compiled() -> None:
    a, z, targets, mask = random(4, 6, 3)
    a.requires_grad_()
    mask[torch.arange(4), torch.arange(4)] = True
    compiled = torch.compile(info_nce, backend="aot_eager", fullgraph=True)
    for P, M in ((None, None), (targets, mask)):
        value, eager = compiled(a, z, P, mask=M, temperature=0.2), info_nce(a, z, P, mask=M, temperature=0.2)
        torch.testing.assert_close(value, eager)
        torch.testing.assert_close(torch.autograd.grad(value, a), torch.autograd.grad(eager, a))


X = torch.eye(3)
HALF = torch.full((3, 3), 1 / 3)
BAD: list[tuple[dict[str, Any], str]] = [
    ({"anchors": torch.zeros(3)}, r"anchors have shape \(3,\); expected"),
    ({"candidates": torch.zeros(0, 3)}, r"candidates have shape \(0, 3\)"),
    ({"anchors": torch.zeros(3, 0)}, r"anchors have shape \(3, 0\)"),
    ({"anchors": torch.ones(3, 3, dtype=torch.int64)}, "anchors are torch.int64; expected floating point"),
    ({"candidates": torch.ones(3, 3, dtype=torch.complex64)}, "candidates are torch.complex64"),
    ({"candidates": torch.ones(3, 4)}, "anchors have 3 dimensions and candidates 4"),
    ({"candidates": torch.ones(2, 3)}, "3 anchors and 2 candidates; without targets, expected at least 3"),
    ({"targets": torch.eye(2)}, r"targets have shape \(2, 2\); expected \(3, 3\)"),
    ({"targets": torch.eye(3, dtype=torch.int64)}, "targets are torch.int64; expected floating point"),
    ({"targets": torch.eye(3) * 2}, "targets of anchor 0 sum to 2; expected 1"),
    ({"targets": torch.eye(3) * 3 - 2 / 3}, "targets hold the value -0.66.*; expected weights of at least 0"),
    ({"targets": torch.full((3, 3), torch.nan)}, "targets hold the value nan"),
    ({"mask": torch.ones(3, 2, dtype=torch.bool)}, r"mask has shape \(3, 2\); expected \(3, 3\)"),
    ({"mask": torch.ones(3, 3)}, "mask is torch.float32; expected torch.bool"),
    (
        {"mask": torch.tensor([[True, True, True], [True, False, True], [True, True, True]])},
        "target of anchor 1 is outside the mask",
    ),
    ({"mask": X.bool(), "targets": HALF}, "target of anchor 0 is outside the mask"),
    ({"mask": torch.zeros(3, 3, dtype=torch.bool)}, "target of anchor 0 is outside the mask"),
    ({"temperature": 0.0}, "temperature is 0.0; expected a positive number"),
    ({"temperature": -1}, "temperature is -1;"),
    ({"temperature": math.nan}, "temperature is nan;"),
    ({"temperature": math.inf}, "temperature is inf;"),
    ({"temperature": "warm"}, "temperature is 'warm';"),
    ({"temperature": True}, "temperature is True;"),
    ({"anchors": X / 0}, "anchors hold 9 NaN or Inf values of 9; expected finite"),
    ({"candidates": X.log()}, "candidates hold 6 NaN or Inf values of 9"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_input(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"anchors": X, "candidates": X, "temperature": 1.0} | change
    with pytest.raises(InputError, match=message) as caught:
        info_nce(**arguments)
    assert "\n" not in str(caught.value)


def test_targets_in_half_precision_are_accepted() -> None:
    targets = torch.rand(5, 300, generator=torch.Generator().manual_seed(0)).softmax(1)
    for dtype in LOW:
        info_nce(torch.ones(5, 2), torch.ones(300, 2), targets.to(dtype), temperature=1.0)


# unit_rows


@pytest.mark.parametrize("center", [True, False])
def test_unit_rows_equals_the_loop(center: bool) -> None:
    x = torch.randn(7, 5, dtype=torch.float64)
    x[3] = 0.0
    expected = torch.tensor(reference.unit(x.tolist(), center), dtype=torch.float64)
    torch.testing.assert_close(unit_rows(x, center), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("center", [True, False])
def test_unit_rows_gradient(center: bool) -> None:
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: unit_rows(x, center), (x,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("make", [torch.zeros, lambda *s: torch.full(s, 1e4), lambda *s: torch.full(s, -0.1)])
def test_a_constant_row_has_no_direction(dtype: torch.dtype, make: Callable[..., Tensor]) -> None:
    for width in (1, 3, 100, 1000):
        x = make(2, width).to(dtype)
        x[1, ::3] = torch.nextafter(x[1, ::3], torch.full_like(x[1, ::3], 1e5)) if dtype.itemsize > 2 else x[1, ::3]
        if not x.any():
            x[1] = 0
        x.requires_grad_()
        out = unit_rows(x)
        assert torch.equal(out, torch.zeros_like(out))
        torch.autograd.backward((out * torch.arange(width)).sum())
        assert x.grad is not None
        assert torch.equal(x.grad, torch.zeros_like(x.grad))


def test_a_constant_row_does_have_a_direction_when_not_centred() -> None:
    torch.testing.assert_close(unit_rows(torch.full((1, 4), 3.0), center=False), torch.full((1, 4), 0.5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e4, 1.0, 1e-6])
def test_unit_rows_at_any_size(dtype: torch.dtype, size: float) -> None:
    x = (torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -1.0]]) * size).to(dtype).requires_grad_()
    out = unit_rows(x)
    root = [0.5**0.5, (1 / 6) ** 0.5, (2 / 3) ** 0.5]
    expected = torch.tensor([[root[0], -root[0], 0.0], [root[1], root[1], -root[2]]], dtype=out.dtype)
    torch.testing.assert_close(out, expected, atol=1e-3 if dtype in LOW else 1e-6, rtol=0)
    assert out.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    # The gradient grows as the row shrinks; the factor keeps it in the range of fp16.
    torch.autograd.backward((out[:, 0] * min(size, 1.0)).sum())
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("size", [1e-37, 1e30])
def test_unit_rows_at_the_ends_of_float32(size: float) -> None:
    x = torch.tensor([[1.0, -1.0]]) * size
    torch.testing.assert_close(unit_rows(x), torch.tensor([[0.5**0.5, -(0.5**0.5)]]))


def test_a_single_spike_among_many_is_no_constant_row() -> None:
    for dtype in LOW:
        x = torch.zeros(1, 21841, dtype=dtype)
        x[0, 5] = 3.0
        assert unit_rows(x)[0, 5].item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("center", [True, False])
def test_the_written_out_gradient_of_unit_rows_is_that_of_autograd(center: bool) -> None:
    x = torch.randn(9, 30, dtype=torch.float64)
    x[2], x[5] = 0.0, 1e4
    grad = torch.randn(9, 30, dtype=torch.float64)
    results = []
    for rows in (x.clone().requires_grad_(), x.T.contiguous().T.requires_grad_()):
        step = constant_step(rows)
        for out in (unit_rows(rows, center), differentiable_unit_rows(rows, center, step)):
            results.append((out, *torch.autograd.grad(out, rows, grad)))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-12, atol=1e-12)
    inputs = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: unit_rows(x, center), (inputs,))
    assert torch.autograd.gradgradcheck(lambda x: unit_rows(x, center), (inputs,))
