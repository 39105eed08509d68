"""The ideas on trial for MCLD, and the suites of CIFAR-100 that try them."""

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.reference import nce as reference
from torch import Tensor

from mcld import MCLD, InputError, Outputs
from mcld.assembly.parts import build_method
from mcld.bench.suite_file import read_suite
from mcld.configs.schema import Distill
from mcld.methods import Category, Instance, Sample
from mcld.registry import METHODS

CIFAR100 = Path(__file__).resolve().parents[2] / "benchmarks" / "cifar100"
SUITES = sorted(file.name for file in CIFAR100.glob("*.yaml"))
Rows = list[list[float]]


@pytest.fixture(scope="module")
def ahead() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("mcld_ahead", CIFAR100 / "ahead.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    METHODS.remove("mcld-ahead")


def batch(seed: int = 0, B: int = 6, C: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    s, t = 3 * torch.randn(2, B, C, generator=g, dtype=torch.float64)
    return s.requires_grad_(), t, torch.tensor([0, 1, 1, 2, 4, 0])[:B]


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in terms.items()}


def loops(pair: Sequence[Rows], y: Tensor, **more: Any) -> dict[str, float]:
    """MCLD by explicit loops, of the rows of student and teacher as they are."""
    options: dict[str, Any] = {"instance": Instance(), "sample": Sample(), "category": Category()}
    as_tensors = [torch.tensor(rows, dtype=torch.float64) for rows in pair]
    return reference.mcld(as_tensors[0], as_tensors[1], y, **(options | more))


def softmax(row: list[float], T: float = 4.0) -> list[float]:
    total = sum(math.exp(z / T) for z in row)
    return [math.exp(z / T) / total for z in row]


@pytest.mark.parametrize("name", SUITES)
def test_every_cell_of_the_suites_composes_and_shared_cells_are_the_same(ahead: Any, name: str) -> None:
    words: dict[tuple[Path | None, str], list[str]] = {}
    for suite in (read_suite(str(CIFAR100 / other)) for other in SUITES[: SUITES.index(name) + 1]):
        for cell in suite.cells():
            spelt = sorted(cell.words)
            assert words.setdefault((suite.keep, cell.id), spelt) == spelt
            if suite.file.name == name and cell.seed == 0:
                settings = cell.settings()
                assert isinstance(settings, Distill)
                build_method(settings.method)
                assert (cell.test_data() == settings.data) is not bool(suite.test)


def test_without_an_idea_it_is_mcld_bit_for_bit(ahead: Any) -> None:
    s, t, y = batch()
    found, expected = (method(s, t, y, 0.1) for method in (ahead.Ahead(), MCLD()))
    assert list(found) == list(expected)
    assert values(found) == values(expected)
    one, other = (torch.autograd.grad(sum(terms.values()), s)[0] for terms in (found, expected))
    assert torch.equal(one, other)
    assert not ahead.Ahead().keeps
    assert ahead.Ahead().views == 1


IDEAS: dict[str, dict[str, Any]] = {
    "end": {"end": 0.5},
    "softmax_end": {"softmax_end": 0.5},
    "spread": {"spread": True},
    "mix": {"mix": 0.25},
    "rows": {"decouple": "rows"},
    "all": {"decouple": "all"},
    "standardized": {"decouple": "all", "options": {"standardize": True}},
    "top": {"top": 3},
    "top of others": {"top": 2, "decouple": "rows"},
    "prototypes": {"prototypes": True},
    "second": {"second": "fixmatch", "within": 0.5, "across": 2.0},
}


@pytest.mark.parametrize("idea", IDEAS)
def test_gradients_are_those_of_the_values(ahead: Any, idea: str) -> None:
    method = ahead.Ahead(**IDEAS[idea])
    s, t, y = batch()
    other_s, other_t, _ = batch(1)
    if method.training_bank:
        method.fill_bank(*batch(2)[1:])

    def total(*students: Tensor) -> Tensor:
        outputs = [Outputs(x) for x in (*students, t, other_t)]
        own, *second = outputs[: len(students)]
        student = own._replace(other=second[0] if second else None)
        terms = method(student, Outputs(t, other=Outputs(other_t) if second else None), y, 0.4)
        return torch.stack(list(terms.values())).sum()

    assert torch.autograd.gradcheck(total, (s, other_s) if method.views == 2 else (s,))


def test_without_the_label_and_of_the_likeliest(ahead: Any) -> None:
    s, t, y = batch()

    def others(rows: Tensor) -> Rows:
        """DKD's distribution over the other classes; the label has their mean."""
        found = []
        for row, label in zip(rows.tolist(), y.tolist(), strict=True):
            p = softmax([z for c, z in enumerate(row) if c != label])
            found.append([*p[:label], 1 / len(p), *p[label:]])
        return found

    usual = [[softmax(row) for row in x.tolist()] for x in (s, t)]
    decoupled = loops([others(s), others(t)], y)
    whole = loops(usual, y)
    found = values(ahead.Ahead(decouple="rows")(s, t, y, 1.0))
    assert found == pytest.approx({**decoupled, "category": whole["category"]}, rel=1e-9)
    found = values(ahead.Ahead(decouple="all")(s, t, y, 1.0))
    assert found == pytest.approx(decoupled, rel=1e-9)

    def first(rows: Tensor) -> Rows:
        cut = []
        for row, teacher in zip(rows.tolist(), t.tolist(), strict=True):
            kept = sorted(range(len(row)), key=lambda c: -teacher[c])[:3]
            p = dict(zip(kept, softmax([row[c] for c in kept]), strict=True))
            cut.append([p.get(c, 0.0) for c in range(len(row))])
        return cut

    found = values(ahead.Ahead(top=3)(s, t, y, 1.0))
    assert found == pytest.approx({**loops([first(s), first(t)], y), "category": whole["category"]}, rel=1e-9)


def test_temperatures(ahead: Any) -> None:
    s, t, y = batch()
    rows = [[softmax(row) for row in x.tolist()] for x in (s, t)]
    for progress in (0.0, 0.25, 1.0):
        terms = {
            name: cls(temperature=0.2 * 0.5**progress) for name, cls in (("instance", Instance), ("sample", Sample))
        }
        expected = loops(rows, y, **terms, category=Category(temperature=0.2 * 0.5**progress), progress=progress)
        assert values(ahead.Ahead(end=0.5)(s, t, y, progress)) == pytest.approx(expected, rel=1e-9)
        cooler = [[softmax(row, 4 * 3**progress) for row in x.tolist()] for x in (s, t)]
        expected = loops(cooler, y, progress=progress)
        assert values(ahead.Ahead(softmax_end=3)(s, t, y, progress)) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(InputError, match="progress"):
        ahead.Ahead(end=0.5, options={"category": {"warmup": 0}})(s, t, y)
    spread = []
    for x in (s, t):
        divided = []
        for row, teacher in zip(x.tolist(), t.tolist(), strict=True):
            mean = sum(teacher) / len(teacher)
            sigma = math.sqrt(sum((z - mean) ** 2 for z in teacher) / (len(teacher) - 1))
            divided.append(softmax([z / sigma for z in row], 2.0))
        spread.append(divided)
    found = values(ahead.Ahead(spread=True, options={"softmax": 2.0})(s, t, y, 1.0))
    assert found == pytest.approx(loops(spread, y), rel=1e-9)


def test_mixed_targets_are_mixed_terms(ahead: Any) -> None:
    s, t, y = batch()
    rows = [[softmax(row) for row in x.tolist()] for x in (s, t)]
    hard = loops(rows, y)
    soft_options = {
        name: replace(options, targets="soft", target_temperature=0.1)
        for name, options in (("instance", Instance()), ("sample", Sample()), ("category", Category()))
    }
    soft = loops(rows, y, **soft_options)
    found = values(ahead.Ahead(mix=0.25, mix_temperature=0.1)(s, t, y, 1.0))
    assert found == pytest.approx({name: 0.75 * hard[name] + 0.25 * soft[name] for name in hard}, rel=1e-9)


def test_class_means_are_candidates(ahead: Any) -> None:
    s, t, y = batch()
    _, all_t, all_y = batch(2)  # no image of class 3
    means = []
    for label in sorted(set(all_y.tolist())):
        members = [softmax(row) for row, own in zip(all_t.tolist(), all_y.tolist(), strict=True) if own == label]
        means.append([sum(column) / len(members) for column in zip(*members, strict=True)])
    rows = [[softmax(row) for row in x.tolist()] for x in (s, t)]
    expected = loops(rows, y, bank=torch.tensor(means, dtype=torch.float64), bank_labels=torch.tensor([0, 1, 2, 4]))
    method = ahead.Ahead(prototypes=True)
    with pytest.raises(InputError, match="holds nothing yet"):
        method(s, t, y, 1.0)
    method.fill_bank(all_t, all_y, torch.arange(6))
    # The images of the batch are those of the bank, whose means they must not take out.
    assert values(method(s, t, y, 1.0, torch.arange(6))) == pytest.approx(expected, rel=1e-9)


def test_two_views_are_contrasted_within_and_across(ahead: Any) -> None:
    s, t, y = batch()
    other_s, other_t, _ = batch(1)

    def total(*pair: Tensor) -> float:
        return sum(values(MCLD()(*pair, y, 0.1)).values())

    method = ahead.Ahead(second="fixmatch", within=0.5, across=2.0, strong_ce_weight=3.0)
    assert (method.views, method.second_policy, method.separate_views) == (2, "fixmatch", True)
    assert ahead.Ahead(second="same").second_policy is None
    found = values(method(Outputs(s, other=Outputs(other_s)), Outputs(t, other=Outputs(other_t)), y, 0.1))
    assert found.pop("within") == pytest.approx(0.5 * total(other_s, other_t))
    assert found.pop("across") == pytest.approx(2 * (total(s, other_t) + total(other_s, t)))
    assert found.pop("ce_strong") == pytest.approx(3 * torch.nn.functional.cross_entropy(other_s, y).item())
    assert found == values(MCLD()(s, t, y, 0.1))


@pytest.mark.parametrize(
    "options",
    [
        {"options": {"softmax": None}, "top": 3},
        {"options": {"standardize": True}, "spread": True},
        {"options": {"bank": 4}, "second": "same"},
        {"prototypes": True, "softmax_end": 2.0},
        {"top": 1},
    ],
)
def test_what_cannot_be_is_refused(ahead: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expect"):
        ahead.Ahead(**options)
