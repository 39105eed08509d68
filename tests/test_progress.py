"""Progress as a tensor, which a replayed step has in place of a number, makes no difference."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mcld.methods import Method, Outputs, Shapes, create_method, list_methods, method_class
from mcld.methods._logits import LogitMethod
from mcld.progress import at_most, cosine, factor, floor, reached

LOGITS = [name for name in list_methods() if method_class(name).needs == {"logits"}]
RAMPS: dict[str, dict[str, Any]] = {"dkd": {"warmup": 5}, "rld": {"warmup": 5}, "sld": {"start": 0.5}}


def tensor(x: float) -> Any:
    return torch.tensor(x, dtype=torch.float64)


@pytest.mark.parametrize("x", [0.0, 0.1, 0.5, 0.999999, 1.0])
def test_numbers_and_tensors(x: float) -> None:
    for function in (floor, cosine, lambda y: at_most(y, 0.3), lambda y: reached(y, 0.5)):
        found = function(tensor(x))
        assert isinstance(found, Tensor)
        assert float(found) == pytest.approx(float(function(x)), abs=1e-15)
    assert factor(x) == x
    found = factor(tensor(x))
    assert isinstance(found, Tensor)
    assert found.dtype is torch.float32
    assert (torch.ones(()) * found).dtype is torch.float32


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("progress", [0.0, 1 / 3, 0.7, 1.0])
def test_methods_take_both(name: str, progress: float) -> None:
    """At every tenth of ten epochs, too, where rounding must not make another epoch of it."""
    method: Method = create_method(name, **RAMPS.get(name, {}))
    method.prepare(Shapes(6), Shapes(6), 100, 10)
    g = torch.Generator().manual_seed(0)
    s, t, *others = (torch.randn(12, 6, generator=g) for _ in "1234")
    s.requires_grad_()
    labels, index = torch.arange(12) % 6, torch.arange(12)
    student, teacher = (
        Outputs(one, other=Outputs(other)) if method.views == 2 else Outputs(one)
        for one, other in zip((s, t), others, strict=True)
    )
    found = []
    for given in (progress, tensor(progress)):
        terms = method.eval()(student, teacher, labels, given, index)
        assert all(term.dtype is torch.float32 for term in terms.values())
        (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), s)
        found.append([*terms.values(), gradient])
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["dkd", "rld"])
def test_epochs_change_where_they_do(name: str) -> None:
    method = create_method(name, warmup=240)
    assert isinstance(method, LogitMethod)
    method.prepare(Shapes(6), Shapes(6), 100, 240)
    for step in range(0, 240 * 7, 5):
        assert float(method.epoch(tensor(step / (240 * 7)))) == method.epoch(step / (240 * 7))
