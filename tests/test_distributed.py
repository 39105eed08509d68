"""Two data-parallel ranks equal one process on the joined batch, in loss and in gradient: two real gloo processes."""

import itertools
import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
import torch.distributed as dist
from tests.methods.feature_outputs import (
    CAT_STUDENT,
    CAT_TEACHER,
    STUDENT,
    TEACHER,
    change,
    leaves,
    outputs,
    ready,
)
from tests.methods.feature_outputs import NAMES as FEATURES
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mcld import KD, MCLD, create_method
from mcld.distiller import gather_outputs
from mcld.distributed import gather_rows
from mcld.methods import Category, Instance, Method, Outputs, Sample, Shapes, combine, list_methods, method_class

Result: TypeAlias = dict[str, Any]
RANKS, ROWS, STEPS, CLASSES = 2, 5, 3, 4


def mcld(anchor: str, targets: str, form: str, bank: int = 0, target_mask: bool = True, center: bool = True) -> MCLD:
    common: dict[str, Any] = {"anchor": anchor, "targets": targets, "temperature": 0.3}
    instance = Instance(target_mask=target_mask, **common)
    return MCLD(instance, Sample(**common), Category(form=form, **common), center=center, bank=bank)


SETTINGS: dict[str, Callable[[], Method]] = {
    f"{anchor}-{targets}-{form}": lambda anchor=anchor, targets=targets, form=form: mcld(anchor, targets, form)
    for anchor, targets, form in itertools.product(
        ("student", "teacher", "both"), ("hard", "soft"), ("columns", "prototypes")
    )
} | {
    "defaults": MCLD,
    "no target mask, no centring": lambda: mcld("student", "hard", "columns", target_mask=False, center=False),
    "bank": lambda: mcld("both", "hard", "prototypes", bank=16),
    **{name: partial(create_method, name) for name in list_methods() if method_class(name).needs == {"logits"}},
    "crld": partial(create_method, "crld", weak_confidence=0.1),  # no network here is as sure as the default asks
    "eakd of dkd": partial(create_method, "eakd", of="dkd"),
    "mlkd as published": partial(create_method, "mlkd", as_published=True),
    "mcld+kd": lambda: combine({"mcld": MCLD(), "kd": KD()}, weights={"kd": 0.5}),
}


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES)).double()


def joined_batch(step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, teacher logits, labels, index of all ranks, in rank order."""
    g = torch.Generator().manual_seed(step)
    n = RANKS * ROWS
    x, t = torch.randn(n, 6, generator=g).double(), torch.randn(n, CLASSES, generator=g).double()
    return x, t, torch.randint(CLASSES, (n,), generator=g), torch.randperm(30, generator=g)[:n]


def train_steps(student: nn.Module, method: Method, share: slice) -> Result:
    """Terms and gradients of a few steps on a share of the joined batches, as the training loop computes them."""
    losses, gradients = [], []
    method.prepare(Shapes(CLASSES), Shapes(CLASSES), 30, 240)
    for step in range(STEPS):
        x, t, y, index = (part[share] for part in joined_batch(step))
        s = student(x)
        if method.requires_global_batch:
            s, t, y, index = gather_rows(s), gather_rows(t), gather_rows(y), gather_rows(index)
        loss = torch.stack(list(method(s, t, y, 0.2, index).values())).sum()
        student.zero_grad()
        torch.autograd.backward(loss)
        losses.append(loss.item())
        gradients.append([p.grad.clone() for p in student.parameters() if p.grad is not None])
    return {"losses": losses, "gradients": gradients}


def feature_steps(name: str, share: slice) -> Result:
    """The same of a method on features, from made-up outputs: terms, gradients by what is learnt and to the student."""
    shapes = (CAT_STUDENT, CAT_TEACHER) if name == "catkd" else (STUDENT, TEACHER)
    method = ready(name, *shapes)
    found: Result = {"losses": [], "learnt": [], "student": []}
    for step in range(2):
        s, t = (
            change(outputs(shape, 10 * step + i, RANKS * ROWS), lambda x: x[share]) for i, shape in enumerate(shapes)
        )
        y, index = torch.arange(RANKS * ROWS)[share] % 3, (torch.arange(RANKS * ROWS) * 2)[share]
        inputs = [x.clone().requires_grad_() for x in leaves(s)]
        s = Outputs(s.logits, inputs[0], tuple(inputs[1:]), s.classifier)
        if method.requires_global_batch:
            s, t, y, index = gather_outputs(s), gather_outputs(t), gather_rows(y), gather_rows(index)
        loss = torch.stack(list(method(s, t, y, 0.9, index).values())).sum()
        method.zero_grad()
        torch.autograd.backward(loss)
        found["losses"].append(loss.item())
        found["learnt"].append([p.grad.clone() for p in method.parameters() if p.grad is not None])
        found["student"].append([torch.zeros_like(x) if x.grad is None else x.grad for x in inputs])
    found["state"] = dict(method.state_dict())
    return found


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    share = slice(rank * ROWS, (rank + 1) * ROWS)
    results: dict[str, Result] = {}
    for name, make in SETTINGS.items():
        results[name] = train_steps(DistributedDataParallel(network()), make(), share)
    for name in FEATURES:
        results[name] = feature_steps(name, share)
    x = (torch.arange(6.0).reshape(3, 2) + 10 * rank).T.requires_grad_()  # not contiguous
    gathered = gather_rows(x)
    weights = torch.arange(12.0).reshape(4, 3) * (rank + 1)
    torch.autograd.backward((gathered * weights).sum())
    integers = gather_rows(torch.tensor([rank, 7]))
    results["gather"] = {"rows": gathered.detach(), "grad": x.grad, "integers": integers}
    torch.save(results, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Result]]:
    """What each of two processes found; they are started once."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1]))  # the processes import this file by its name
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=run_rank, args=(rank, str(folder))) for rank in range(RANKS)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * RANKS
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.mark.parametrize("name", list(SETTINGS))
def test_two_ranks_equal_one_process(name: str, ranks: list[dict[str, Result]]) -> None:
    one = train_steps(network(), SETTINGS[name](), slice(None))
    found = [rank[name] for rank in ranks]
    relational = SETTINGS[name]().requires_global_batch
    for step in range(STEPS):
        losses = [rank["losses"][step] for rank in found]
        if relational:  # every rank has the joined loss
            assert losses == pytest.approx([one["losses"][step]] * RANKS, rel=1e-10)
        else:
            assert sum(losses) / RANKS == pytest.approx(one["losses"][step], rel=1e-10)
        for rank in found:
            for theirs, ours in zip(rank["gradients"][step], one["gradients"][step], strict=True):
                torch.testing.assert_close(theirs, ours, atol=1e-10, rtol=1e-10)
    assert max(g.abs().max().item() for g in one["gradients"][-1]) > 1e-4  # there was something to compare


@pytest.mark.parametrize("name", FEATURES)
def test_two_ranks_equal_one_process_in_what_they_see_of_features(name: str, ranks: list[dict[str, Result]]) -> None:
    one, found = feature_steps(name, slice(None)), [rank[name] for rank in ranks]
    near: dict[str, Any] = {"atol": 1e-7, "rtol": 1e-6}  # CRD's banks are float32
    for step in range(2):
        losses = [rank["losses"][step] for rank in found]
        assert sum(losses) / RANKS == pytest.approx(one["losses"][step], rel=1e-6)
        for i, gradient in enumerate(one["learnt"][step]):
            torch.testing.assert_close(sum(rank["learnt"][step][i] for rank in found) / RANKS, gradient, **near)
        for i, gradient in enumerate(one["student"][step]):  # data parallelism divides by the number of ranks
            both = torch.cat([rank["student"][step][i] for rank in found]) / RANKS
            torch.testing.assert_close(both, gradient, **near)
    for rank in found:
        torch.testing.assert_close(rank["state"], one["state"], **near)


def test_without_the_gather_they_would_differ() -> None:
    x, t, y, _ = joined_batch(0)
    s = network()(x).detach()
    joined = MCLD()(s, t, y, progress=1)["instance"]
    halves = [MCLD()(s[part], t[part], y[part], progress=1)["instance"] for part in (slice(0, ROWS), slice(ROWS, None))]
    assert abs(float(sum(halves) / 2 - joined)) > 1e-3


def test_gather_joins_rows_and_sums_gradients(ranks: list[dict[str, Result]]) -> None:
    first = torch.arange(6.0).reshape(3, 2).T
    for rank, results in enumerate(ranks):
        found = results["gather"]
        assert torch.equal(found["rows"], torch.cat([first, first + 10]))
        weights = torch.arange(12.0).reshape(4, 3) * (1 + 2)  # both ranks' parts
        assert torch.equal(found["grad"], weights[2 * rank : 2 * rank + 2])
        assert found["integers"].tolist() == [0, 7, 1, 7]


def test_identity_on_one_process() -> None:
    x = torch.randn(3, 2)
    assert gather_rows(x) is x
