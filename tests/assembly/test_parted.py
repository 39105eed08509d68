"""SGD with a momentum for each part of the loss (DOT, DeepKD)."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcld import InputError, create_method
from mcld.assembly.optimizer_options import Optimizer
from mcld.assembly.optimizers import create_optimizer
from mcld.assembly.parted import PartedSGD, check_parts, loss_parts, part_momenta


def problem() -> tuple[nn.Parameter, nn.Parameter]:
    g = torch.Generator().manual_seed(0)
    return tuple(nn.Parameter(torch.randn(3, generator=g, dtype=torch.float64)) for _ in range(2))  # type: ignore[return-value]  # two


def losses(p: Tensor, q: Tensor, step: int) -> dict[str, Tensor]:
    """The task knows p alone, as cross-entropy knows nothing of a method's projection q."""
    return {"distillation": ((p - step) ** 2).sum() + (p * q).sum(), "task": (p**3).sum() / 10 - p.sum() * step}


def test_equals_the_update_written_out() -> None:
    (p, q), lr, decay = problem(), 0.05, 0.1
    momenta = {"distillation": 0.9, "task": 0.7}
    optimizer = PartedSGD([p, q], lr, momenta, decayed="task", weight_decay=decay)
    a, b = p.detach().clone(), q.detach().clone()
    kd_a = task_a = kd_b = None
    for step in range(5):
        x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
        parts = losses(x, y, step)
        ga, gb = torch.autograd.grad(parts["distillation"], (x, y), retain_graph=True)
        (gt,) = torch.autograd.grad(parts["task"], x)
        kd_a = ga if kd_a is None else 0.9 * kd_a + ga
        task_a = gt + decay * a if task_a is None else 0.7 * task_a + gt + decay * a
        kd_b = gb + decay * b if kd_b is None else 0.8 * kd_b + gb + decay * b  # one part alone: the mean momentum
        a, b = a - lr * (kd_a + task_a), b - lr * kd_b

        for part, loss in losses(p, q, step).items():
            torch.autograd.backward(loss, retain_graph=True)
            optimizer.take(part)
        optimizer.step()
        torch.testing.assert_close((p.data, q.data), (a, b), rtol=1e-12, atol=1e-12)
    assert p.grad is None


def test_equal_momenta_are_sgd() -> None:
    (p, q), (r, s) = problem(), problem()
    parted = PartedSGD([p, q], 0.05, {"distillation": 0.9, "task": 0.9}, decayed="task", weight_decay=0.1)
    sgd = torch.optim.SGD([r, s], lr=0.05, momentum=0.9, weight_decay=0.1)
    for step in range(4):
        for part, loss in losses(p, q, step).items():
            torch.autograd.backward(loss, retain_graph=True)
            parted.take(part)
        parted.step()
        sgd.zero_grad()
        torch.autograd.backward(torch.stack(list(losses(r, s, step).values())).sum())
        sgd.step()
    torch.testing.assert_close((p, q), (r, s), rtol=1e-10, atol=1e-10)


def test_clipping_limits_the_whole_gradient() -> None:
    p, q = problem()
    optimizer = PartedSGD([p, q], 1.0, {"distillation": 0.9, "task": 0.7}, decayed="task")
    for part, loss in losses(p, q, 3).items():
        torch.autograd.backward(loss, retain_graph=True)
        optimizer.take(part)
    before = copy.deepcopy([list(grads.values()) for grads in optimizer.taken.values()])
    whole = torch.cat([before[0][0] + before[1][0], before[0][1]])
    optimizer.clip(0.5)
    after = [list(grads.values()) for grads in optimizer.taken.values()]
    for one, other in zip(before, after, strict=True):
        for x, y in zip(one, other, strict=True):
            torch.testing.assert_close(y, x * 0.5 / whole.norm(), rtol=1e-5, atol=0)
    optimizer.clip(100.0)
    assert [list(g.values()) for g in optimizer.taken.values()] == after  # short enough


def test_means_over_ranks() -> None:
    p, q = problem()
    optimizer = PartedSGD([p, q], 1.0, {"distillation": 0.9, "task": 0.7}, decayed="task")
    for part, loss in losses(p, q, 3).items():
        torch.autograd.backward(loss, retain_graph=True)
        optimizer.take(part)
    before = copy.deepcopy([list(grads.values()) for grads in optimizer.taken.values()])
    sizes = []

    def halve(flat: Tensor) -> Tensor:
        sizes.append(flat.shape)
        return flat / 2

    optimizer.average(halve)
    assert sizes == [(6,), (3,)]  # all gradients of a part at once
    for one, grads in zip(before, optimizer.taken.values(), strict=True):
        for x, y in zip(one, grads.values(), strict=True):
            assert torch.equal(y, x / 2)


def test_goes_on_from_its_state() -> None:
    def steps(optimizer: PartedSGD, p: Tensor, q: Tensor, start: int, end: int) -> None:
        for step in range(start, end):
            for part, loss in losses(p, q, step).items():
                torch.autograd.backward(loss, retain_graph=True)
                optimizer.take(part)
            optimizer.step()

    settings = Optimizer(name="dot")
    (p, q), (r, s) = problem(), problem()
    whole = create_optimizer(settings, 0.05, nn.ParameterList([p, q]))
    assert isinstance(whole, PartedSGD)
    steps(whole, p, q, 0, 3)
    r.data, s.data = p.data.clone(), q.data.clone()
    state = copy.deepcopy(whole.state_dict())
    steps(whole, p, q, 3, 6)
    later = create_optimizer(settings, 0.05, nn.ParameterList([r, s]))
    assert isinstance(later, PartedSGD)
    later.load_state_dict(state)
    steps(later, r, s, 3, 6)
    assert torch.equal(p, r)
    assert torch.equal(q, s)


def test_momenta() -> None:
    assert part_momenta(Optimizer(name="dot")) == pytest.approx({"distillation": 0.975, "task": 0.825})
    assert list(part_momenta(Optimizer(name="deepkd"))) == ["nontarget", "target", "task"]
    assert part_momenta(Optimizer(name="deepkd", delta=0.05)) == pytest.approx(
        {"nontarget": 0.95, "target": 0.85, "task": 0.95}
    )
    released = Optimizer(name="deepkd", delta_task=-0.075, delta_target=-0.1, delta_distillation=0.025)
    assert part_momenta(released) == pytest.approx({"nontarget": 0.925, "target": 0.8, "task": 0.825})
    with pytest.raises(InputError, match=r"momentum=0.95 gives the part 'distillation' a momentum of 1.025; expected"):
        part_momenta(Optimizer(name="dot", momentum=0.95))


def test_every_term_has_a_part() -> None:
    terms = {name: torch.tensor(2.0**k) for k, name in enumerate(("ce", "target", "nontarget"))}
    dkd = create_method("dkd")
    assert loss_parts(terms, dkd, ("distillation", "task")) == {"distillation": 6.0, "task": 1.0}
    assert loss_parts(terms, dkd, ("nontarget", "target", "task")) == {"nontarget": 4.0, "target": 2.0, "task": 1.0}
    assert loss_parts({"kl": torch.tensor(1.0)}, create_method("kd"), ("distillation", "task")) == {"distillation": 1.0}
    both = create_method(["dkd", "sld"])
    named = {"ce": 1.0, "dkd.target": 2.0, "dkd.nontarget": 4.0, "sld.teacher": 8.0, "sld.ce_strong": 16.0}
    parts = loss_parts({name: torch.tensor(v) for name, v in named.items()}, both, ("nontarget", "target", "task"))
    assert parts == {"nontarget": 12.0, "target": 2.0, "task": 17.0}


BAD: list[tuple[str, Any, float, str]] = [
    ("dot", "plain", 1.0, "optimizer=dot takes the teacher's part of the loss apart from the task's; there is none"),
    ("dot", "pld", 0.0, "optimizer=dot takes the task's part of the loss apart; ce_weight=0 leaves it empty"),
    ("deepkd", "kd", 0.1, "it has no such term; expected kd with method.decoupled=true, dkd, nkd, rld or wkd"),
    ("deepkd", ["mcld", "kd"], 1.0, "it has no such term; expected kd"),
]


@pytest.mark.parametrize(("name", "method", "ce_weight", "message"), BAD)
def test_a_method_without_a_part(name: str, method: Any, ce_weight: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_parts(name, create_method(method), ce_weight)


@pytest.mark.parametrize("method", ["dkd", "nkd", "rld", "wkd", ["dkd", "mcld"]])
def test_methods_with_all_parts(method: Any) -> None:
    check_parts("deepkd", create_method(method), 1.0)
    check_parts("deepkd", create_method("kd", decoupled=True), 0.1)
    check_parts("deepkd", create_method("eakd", of="dkd"), 1.0)
