"""WKD on logits: against a loop, gradients, extremes, orders."""

import math
from typing import Any

import pytest
import torch
from tests.reference.logit_methods import mean, softmax, without
from torch import Tensor

from mcld import InputError, create_method
from mcld.methods import Outputs
from mcld.methods.wkd import WKD, class_costs, transport_cost


def batch(B: int = 5, C: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of student and teacher, the teacher's class vectors, labels."""
    g = torch.Generator().manual_seed(0)
    s, t = 2 * torch.randn(2, B, C, generator=g, dtype=torch.float64)
    weight = torch.randn(C, 3, generator=g, dtype=torch.float64) + 0.5
    return s.to(dtype), t.to(dtype), weight.to(dtype), torch.randint(C, (B,), generator=g)


def call(s: Tensor, t: Tensor, vectors: Tensor, y: Tensor, progress: float = 0.0, **options: Any) -> dict[str, Tensor]:
    other = torch.ones(s.shape[1], 2)  # the student's own classifier is not read
    terms: dict[str, Tensor] = create_method("wkd", **options)(
        Outputs(s, classifier=(other, None)), Outputs(t, classifier=(vectors, None)), y, progress
    )
    return terms


def loop(s: Tensor, t: Tensor, weight: Tensor, y: Tensor, T: float, reg: float, rounds: int) -> tuple[float, float]:
    """Target and non-target part, in plain Python: Sinkhorn's algorithm without the label's class."""
    w = weight.tolist()
    norms = [math.sqrt(sum(x * x for x in row)) for row in w]
    C = len(w)
    cosines = [
        [sum(a * b for a, b in zip(w[i], w[j], strict=True)) / norms[i] / norms[j] for j in range(C)] for i in range(C)
    ]
    target, other = [], []
    for a, b, label in zip(s.tolist(), t.tolist(), y.tolist(), strict=True):
        target.append(-softmax(b)[label] * math.log(softmax(a)[label]))
        q, p = softmax(without(a, label), T), softmax(without(b, label), T)
        names = [c for c in range(C) if c != label]
        costs = [[1 - math.exp(-(1 - cosines[i][j])) for j in names] for i in names]
        K = [[math.exp(-cost / reg) for cost in row] for row in costs]
        n = len(names)
        u, v = [1 / n] * n, [0.0] * n
        for _ in range(rounds):
            v = [p[j] / sum(K[i][j] * u[i] for i in range(n)) for j in range(n)]
            u = [q[i] / sum(K[i][j] * v[j] for j in range(n)) for i in range(n)]
        other.append(sum(u[i] * K[i][j] * v[j] * costs[i][j] for i in range(n) for j in range(n)))
    return mean(target), mean(other)


@pytest.mark.parametrize(("B", "C"), [(5, 4), (1, 4), (3, 2), (4, 6)])
def test_equals_the_loop(B: int, C: int) -> None:
    s, t, weight, y = batch(B, C)
    target, other = loop(s, t, weight, y, T=3.0, reg=0.1, rounds=7)
    terms = call(s, t, weight, y, temperature=3.0, weight=50.0, regularization=0.1, iterations=7)
    assert terms["target"].item() == pytest.approx(target, rel=1e-12)
    assert terms["nontarget"].item() == pytest.approx(50 * other, rel=1e-9, abs=1e-12)


def test_moving_costs_what_the_nearest_plan_does() -> None:
    costs = torch.tensor([[0.0, 0.1, 0.3], [0.1, 0.0, 0.3], [0.3, 0.3, 0.0]], dtype=torch.float64)
    q, p = torch.tensor([[0.5, 0.2, 0.3]]).double(), torch.tensor([[0.2, 0.5, 0.3]]).double()
    assert transport_cost(q, q, p, costs, 0.01, 500).item() == pytest.approx(0.03, rel=1e-3)  # 0.3 at 0.1
    assert transport_cost(q, q, q, costs, 0.01, 500).item() == pytest.approx(0.0, abs=1e-4)


def test_class_costs() -> None:
    weight = torch.tensor([[1.0, 0.0], [0.0, 5.0], [-2.0, 0.0], [0.0, 0.0]])
    assert torch.allclose(class_costs(weight, 0.0)[0], torch.tensor([0.0, 1.0, 2.0, 1.0]))
    assert torch.allclose(class_costs(weight, 2.0)[0], 1 - torch.exp(-2 * torch.tensor([0.0, 1.0, 2.0, 1.0])))
    assert class_costs(weight.bfloat16(), 1.0).dtype is torch.float32


def test_gradient() -> None:
    s, t, weight, y = batch(3, 4)
    weight.requires_grad_()
    t.requires_grad_()
    s.requires_grad_()

    def loss(x: Tensor) -> Tensor:
        return torch.stack(list(call(x, t.detach(), weight.detach(), y, weight=20.0).values())).sum()

    assert torch.autograd.gradcheck(loss, s)
    torch.autograd.backward(torch.stack(list(call(s, t, weight, y).values())).sum())
    assert t.grad is None
    assert weight.grad is None
    assert s.grad is not None
    assert s.grad[torch.arange(3), y].abs().max() > 1e-6


EXTREMES = [
    [[1e4, -1e4, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0], [-1e4, 0.0, 1e4, 1e4]],
    [[-1e4, 1e4, 0.0, 1.0], [1e4, 0.0, -1e4, 2.0], [1e4, 1e4, 1e4, 1e4]],
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("regularization", [0.05, 0.001])
def test_extremes(dtype: torch.dtype, regularization: float) -> None:
    x, y = torch.tensor(EXTREMES, dtype=dtype), torch.tensor([0, 1, 2])
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1e4, 1e4]], dtype=dtype)
    for first, second in ((0, 1), (1, 0), (0, 0)):
        s = x[first].clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = call(s, x[second], weight, y, regularization=regularization, sharpness=0.0)
        assert all(term.isfinite() and term.dtype is torch.float32 for term in terms.values())
        (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), s)
        assert gradient.isfinite().all()


def test_order_of_images_and_classes() -> None:
    s, t, weight, y = batch()
    before = call(s, t, weight, y)
    images, classes = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(call(s[images], t[images], weight, y[images]), before)
    after = call(s[:, classes], t[:, classes], weight[classes], classes.argsort()[y])
    torch.testing.assert_close(after, before)
    halves = [call(s[part], t[part], weight, y[part])["nontarget"] for part in (slice(0, 1), slice(1, 5))]
    torch.testing.assert_close((halves[0] + 4 * halves[1]) / 5, before["nontarget"])


def test_the_weight_falls_as_half_a_cosine() -> None:
    method = create_method("wkd")
    assert isinstance(method, WKD)
    assert method.decay(0.6) == method.decay(150 / 240) == 1.0
    assert method.decay(195 / 240) == pytest.approx(0.5)  # half of the last 90
    assert method.decay(1.0) == pytest.approx(0.0)
    always = create_method("wkd", decay_start=1.0)
    assert isinstance(always, WKD)
    assert always.decay(1.0) == 1.0
    s, t, weight, y = batch()
    full, none = call(s, t, weight, y, 0.0), call(s, t, weight, y, 1.0)
    assert none["nontarget"].item() == 0.0
    assert none["target"] == full["target"]


def test_compiled() -> None:
    torch._dynamo.reset()
    s, t, weight, y = batch()
    method = create_method("wkd")
    given = Outputs(s, classifier=(weight, None)), Outputs(t, classifier=(weight, None)), y, 0.3
    torch.testing.assert_close(torch.compile(method, backend="aot_eager", fullgraph=True)(*given), method(*given))


def test_bad_input() -> None:
    s, t, weight, y = batch()
    with pytest.raises(InputError, match="wkd got the student's logits alone; expected Outputs with classifier and"):
        create_method("wkd")(s, t, y, 0.5)
    with pytest.raises(InputError, match="wkd changes with the progress of training"):
        create_method("wkd")(s, t, y)
    with pytest.raises(InputError, match="the logits have 1 class; expected at least 2"):
        call(s[:, :1], t[:, :1], weight[:1], 0 * y)
    with pytest.raises(InputError, match=r"progress is 1.5; expected a share"):
        call(s, t, weight, y, 1.5)
    for key in ("temperature", "weight", "sharpness", "regularization", "iterations", "decay_start"):
        for bad in (-1, math.nan, "4", True):
            with pytest.raises(InputError, match=rf"^{key} is {bad!r}; expected"):
                create_method("wkd", **{key: bad})
