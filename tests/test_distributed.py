"""Two data-parallel ranks equal one process on the joined batch, in loss and in gradient: two real gloo processes."""

import itertools
import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from mcld import KD, MCLD, LogitMethod, create_method
from mcld.distributed import gather_rows
from mcld.methods import Category, Instance, Method, Sample, Terms, combine, list_methods, method_class
from mcld.testing import check_two_ranks, two_rank_faults

RANKS, ROWS, CLASSES = 2, 5, 4


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


OPTIONS: dict[str, dict[str, Any]] = {"crd": {"negatives": 8, "dim": 4}}
FEATURES: dict[str, Callable[[], Method]] = {
    name: partial(create_method, name, **OPTIONS.get(name, {}))
    for name in list_methods()
    if method_class(name).family in ("features", "relations")
}
ALL = {**FEATURES, **SETTINGS}  # of a name in both, the latter's options


@pytest.fixture(scope="module")
def faults() -> dict[str, str]:
    """What the battery finds in all of them; its two processes are started once."""
    return two_rank_faults({name: make() for name, make in ALL.items()})


@pytest.mark.parametrize("name", list(ALL))
def test_two_ranks_equal_one_process(name: str, faults: dict[str, str]) -> None:
    assert name not in faults, faults[name]


class Forgetful(LogitMethod):
    """Says that images are independent, and they are not."""

    requires_global_batch = False

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        return {"mean": (student.mean(dim=0) - teacher.mean(dim=0)).square().sum()}


class Constant(LogitMethod):
    """Teaches nothing."""

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        return {"nothing": 0 * student.sum()}


class OwnShare(LogitMethod):
    """Adds up what it should average, and says that images are independent: the loss of two ranks is half of it."""

    requires_global_batch = False

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
        return {"sum": (student - teacher).square().sum()}


def test_the_battery_finds_what_differs_between_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))  # the processes import this file by its name
    found = two_rank_faults({"right": KD(), "forgetful": Forgetful(), "constant": Constant(), "share": OwnShare()})
    assert set(found) == {"forgetful", "constant", "share"}
    assert "the loss of two ranks is" in found["forgetful"]
    assert "the loss of two ranks is" in found["share"]
    assert found["constant"] == "no gradient reaches the student: there is nothing to compare"

    class Local(LogitMethod):
        pass

    with pytest.raises(AssertionError, match="expected classes that can be imported"):
        check_two_ranks(Local())


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    x = (torch.arange(6.0).reshape(3, 2) + 10 * rank).T.requires_grad_()  # not contiguous
    gathered = gather_rows(x)
    weights = torch.arange(12.0).reshape(4, 3) * (rank + 1)
    torch.autograd.backward((gathered * weights).sum())
    integers = gather_rows(torch.tensor([rank, 7]))
    results = {"rows": gathered.detach(), "grad": x.grad, "integers": integers}
    torch.save(results, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture
def ranks(tmp_path: Path) -> list[dict[str, Tensor]]:
    """What each of two processes found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1]))  # the processes import this file by its name
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=run_rank, args=(rank, str(tmp_path))) for rank in range(RANKS)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * RANKS
    return [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(RANKS)]


def test_without_the_gather_they_would_differ() -> None:
    g = torch.Generator().manual_seed(0)
    s, t = torch.randn(2, RANKS * ROWS, CLASSES, generator=g, dtype=torch.float64)
    y = torch.randint(CLASSES, (RANKS * ROWS,), generator=g)
    joined = MCLD()(s, t, y, progress=1)["instance"]
    halves = [MCLD()(s[part], t[part], y[part], progress=1)["instance"] for part in (slice(0, ROWS), slice(ROWS, None))]
    assert abs(float(sum(halves) / 2 - joined)) > 1e-3


def test_gather_joins_rows_and_sums_gradients(ranks: list[dict[str, Tensor]]) -> None:
    first = torch.arange(6.0).reshape(3, 2).T
    for rank, found in enumerate(ranks):
        assert torch.equal(found["rows"], torch.cat([first, first + 10]))
        weights = torch.arange(12.0).reshape(4, 3) * (1 + 2)  # both ranks' parts
        assert torch.equal(found["grad"], weights[2 * rank : 2 * rank + 2])
        assert found["integers"].tolist() == [0, 7, 1, 7]


def test_identity_on_one_process() -> None:
    x = torch.randn(3, 2)
    assert gather_rows(x) is x
