"""KD against a loop, its limits, its gradient, and what it refuses."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcld import KD, InputError


def loop(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """T² times the mean over images of Σ_c p_c · log(p_c / q_c)."""
    total = 0.0
    for s_row, t_row in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        q = [math.exp(x / temperature) for x in s_row]
        p = [math.exp(x / temperature) for x in t_row]
        for a, b in zip(p, q, strict=True):
            total += a / sum(p) * math.log((a / sum(p)) / (b / sum(q)))
    return temperature**2 * total / len(student)


def batch(B: int = 5, C: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    s, t = torch.randn(2, B, C, generator=g, dtype=torch.float64) * 3
    return s, t, torch.randint(C, (B,), generator=g)


@given(B=st.integers(1, 6), C=st.integers(1, 6), temperature=st.floats(0.5, 20), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_equals_the_loop(B: int, C: int, temperature: float, seed: int) -> None:
    s, t, y = batch(B, C, seed)
    value = KD(temperature, weight=0.7)(s, t, y)["kl"].item()
    assert value == pytest.approx(0.7 * loop(s, t, temperature), rel=1e-10, abs=1e-12)


def test_defaults_are_the_fields() -> None:
    method = KD()
    assert (method.temperature, method.weight, method.ce_weight, method.requires_global_batch) == (4.0, 0.9, 0.1, False)
    s, t, y = batch()
    assert method(s, t, y)["kl"].item() == pytest.approx(0.9 * loop(s, t, 4.0))


def test_zero_with_zero_gradient_at_the_teacher() -> None:
    _, t, y = batch()
    s = t.clone().requires_grad_()
    loss = KD()(s, t, y)["kl"]
    assert loss.item() == pytest.approx(0.0, abs=1e-14)
    assert torch.autograd.grad(loss, s)[0].abs().max() < 1e-14


def test_a_high_temperature_tends_to_the_distance_of_centred_logits() -> None:
    # Hinton et al. 2015, section 2.1: the limit is the squared distance of zero-mean logits over 2 C.
    s, t, y = batch()
    difference = (s - s.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
    expected = difference.square().sum(1).mean() / (2 * s.shape[1])
    torch.testing.assert_close(KD(1e3, weight=1.0)(s, t, y)["kl"], expected, rtol=5e-3, atol=0)


def test_shift_and_order_do_not_matter() -> None:
    s, t, y = batch()
    before = KD()(s, t, y)
    images, classes = torch.randperm(5), torch.randperm(4)
    torch.testing.assert_close(KD()(s + torch.randn(5, 1), t - 7, y), before)
    torch.testing.assert_close(KD()(s[images][:, classes], t[images][:, classes], y[images]), before)


def test_gradient() -> None:
    s, t, y = batch()
    s.requires_grad_()
    t.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: KD(2.0)(s, t, y)["kl"], (s,))
    torch.autograd.backward(KD()(s, t, y)["kl"])
    assert t.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_logits(dtype: torch.dtype) -> None:
    s = torch.tensor([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    t = torch.tensor([[-1e4, 1e4, 0.0], [1e4, 0.0, -1e4]], dtype=dtype)
    loss = KD()(s, t, torch.tensor([0, 1]))["kl"]
    assert loss.isfinite()
    assert loss.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert torch.autograd.grad(loss, s)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(dtype: torch.dtype) -> None:
    s, t, y = batch()
    s, t = s.to(dtype), t.to(dtype)
    expected = KD()(s.float(), t.float(), y)
    torch.testing.assert_close(KD()(s, t, y), expected)
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(KD()(s, t, y), expected)


def test_compiled() -> None:
    torch._dynamo.reset()
    s, t, y = batch()
    s.requires_grad_()
    value, eager = torch.compile(KD(), backend="aot_eager", fullgraph=True)(s, t, y)["kl"], KD()(s, t, y)["kl"]
    torch.testing.assert_close(value, eager)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(eager, s))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature is 0; expected a positive number"),
        ({"temperature": -4}, "temperature is -4; expected a positive number"),
        ({"temperature": math.inf}, "temperature is inf;"),
        ({"temperature": "4"}, "temperature is '4';"),
        ({"weight": -1}, "weight is -1; expected a positive number"),
        ({"weight": math.nan}, "weight is nan;"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        KD(**options)


def test_bad_input() -> None:
    s, t, y = batch()
    for student, teacher, labels, message in (
        (s, t[:, :3], y, "student has 4 classes and teacher 3"),
        (s / 0, t, y, "student logits hold 20 NaN or Inf values of 20"),
        (s, t, y + 4, "labels range from"),
    ):
        with pytest.raises(InputError, match=message):
            KD()(student, teacher, labels)
