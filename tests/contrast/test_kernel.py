"""The forms of the kernel against the plain one: every kind of targets and mask, any sizes, every dtype."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcld import MCLD, info_nce
from mcld import contrast as kernel
from mcld.contrast import FORMS, Contrast, Relation, blocks, contrast, force_form

Problem = tuple[Tensor, list[Tensor], Relation, list[Contrast]]
OTHERS = ("full", "blocked")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 1)  # so that the least number of candidates, 16, makes a block
    monkeypatch.setattr(blocks, "ANCHORS", 6)


def problem(n: int, sizes: tuple[int, ...], d: int = 5, seed: int = 0, classes: int = 4) -> Problem:
    """Anchors, pieces of candidates, all that can relate them, and a term of each kind; float64."""
    g = torch.Generator().manual_seed(seed)
    rows = [torch.randn(k, d, generator=g, dtype=torch.float64) for k in (n, *sizes)]
    teacher = [torch.randn(k, d, generator=g, dtype=torch.float64) for k in (n, *sizes)]
    N = sum(sizes)
    labels = torch.randint(classes, (N,), generator=g)
    valid = torch.rand(N, generator=g) < 0.7
    valid[:n] = True
    relation = Relation((labels[:n], labels), valid, None, (teacher[0], teacher[1:]))
    terms = [
        Contrast(0.5, "own", target_mask=True),
        Contrast(0.3, "own"),
        Contrast(0.7, "labels"),
        Contrast(0.3, "soft", target_temperature=0.4),
        Contrast(0.6, "soft", target_mask=True, target_temperature=0.2),
    ]
    return rows[0], rows[1:], relation, terms


def evaluate(given: Problem, form: str, wanted: str = "both") -> tuple[list[Tensor], list[Tensor]]:
    """Losses and gradients; each term with a weight of its own."""
    anchors, candidates, relation, terms = given
    a = anchors.clone().requires_grad_(wanted != "candidates")
    z = [rows.clone().requires_grad_(wanted != "anchors") for rows in candidates]
    with force_form(form):
        losses = contrast(a, z, relation, terms)
    total = torch.stack([(k + 1) * loss for k, loss in enumerate(losses)]).sum()
    return losses, list(torch.autograd.grad(total, [x for x in (a, *z) if x.requires_grad]))


def check_forms(given: Problem, wanted: str = "both") -> None:
    """All forms give the losses and gradients of the plain one."""
    plain = evaluate(given, "plain", wanted)
    for form in OTHERS:
        torch.testing.assert_close(evaluate(given, form, wanted), plain, rtol=1e-10, atol=1e-11)


@given(
    n=st.integers(1, 20),
    extra=st.integers(0, 40),
    more=st.lists(st.integers(1, 40), max_size=2),
    d=st.integers(1, 6),
    seed=st.integers(0, 999),
    wanted=st.sampled_from(["anchors", "candidates", "both"]),
)
@settings(max_examples=80, deadline=None)
def test_all_forms_are_equal(n: int, extra: int, more: list[int], d: int, seed: int, wanted: str) -> None:
    check_forms(problem(n, (n + extra, *more), d, seed), wanted)


@pytest.mark.parametrize("N", [15, 16, 17, 31, 32, 33, 100])
@pytest.mark.parametrize("kind", ["own", "labels", "soft"])
def test_each_kind_alone_around_the_edge_of_a_block(N: int, kind: str) -> None:
    anchors, candidates, relation, terms = problem(9, (N,))
    for term in terms:
        if term.targets == kind:
            check_forms((anchors, candidates, relation, [term]))


def test_a_first_block_in_which_nothing_counts() -> None:
    anchors, candidates, relation, _ = problem(3, (50,))
    valid = torch.zeros(50, dtype=torch.bool)
    valid[40:] = True
    relation = relation._replace(valid=valid, own=torch.tensor([41, 49, 45]))
    terms = [Contrast(0.5), Contrast(0.5, "soft", target_temperature=0.3)]
    check_forms((anchors, candidates, relation, terms))


def test_own_candidates_may_repeat() -> None:
    anchors, candidates, _, _ = problem(7, (40,))
    relation = Relation(own=torch.tensor([3, 39, 3, 0, 17, 3, 39]))
    check_forms((anchors, candidates, relation, [Contrast(0.2)]))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("total", [1.0, 0.9])
def test_weights_and_mask(masked: bool, total: float) -> None:
    anchors, candidates, _, _ = problem(7, (45,))
    g = torch.Generator().manual_seed(3)
    mask = torch.rand(7, 45, generator=g) < 0.5
    mask[:, 20] = True
    weights = torch.rand(7, 45, generator=g, dtype=torch.float64) * mask
    weights = total * weights / weights.sum(1, keepdim=True)  # info_nce lets sums of half-precision weights be off
    relation = Relation(weights=weights, mask=mask if masked else None)
    check_forms((anchors, candidates, relation, [Contrast(0.4, "weights")]))


@pytest.mark.parametrize("form", OTHERS)
def test_gradient(form: str) -> None:
    anchors, candidates, relation, terms = problem(3, (20, 18), d=2)
    inputs = [x.requires_grad_() for x in (anchors, *candidates)]

    def losses(a: Tensor, *z: Tensor) -> tuple[Tensor, ...]:
        with force_form(form):
            return tuple(contrast(a, z, relation, terms))

    assert torch.autograd.gradcheck(losses, inputs)


@pytest.mark.parametrize("form", OTHERS)
def test_the_gradient_can_be_differentiated(form: str) -> None:
    anchors, candidates, relation, terms = problem(2, (11, 8), d=2)
    inputs = [x.requires_grad_() for x in (anchors, *candidates)]

    def losses(a: Tensor, *z: Tensor) -> tuple[Tensor, ...]:
        with force_form(form):
            return tuple(contrast(a, z, relation, terms))

    assert torch.autograd.gradgradcheck(losses, inputs)


@pytest.mark.parametrize("form", FORMS)
def test_anchors_and_candidates_made_of_one_another(form: str) -> None:
    x = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    for other in (x, 2 * x.flip(0)):
        with force_form(form):
            loss = info_nce(x, other, temperature=0.5)
        (first,), (second,) = (
            torch.autograd.grad(loss, x, retain_graph=True, create_graph=again) for again in (False, True)
        )
        torch.testing.assert_close(second, first)


@pytest.mark.parametrize("form", FORMS)
def test_targets_that_change_before_the_backward_pass_are_noticed(form: str) -> None:
    a, z = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weights = torch.eye(4, dtype=torch.float64)
    with force_form(form):
        loss = info_nce(a, z, weights, temperature=0.5)
    weights.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, a, create_graph=True)


@pytest.mark.parametrize("form", OTHERS)
def test_backward_twice_gives_the_same(form: str) -> None:
    anchors, candidates, relation, terms = problem(5, (40,))
    anchors.requires_grad_()
    with force_form(form):
        total = torch.stack(contrast(anchors, candidates, relation, terms)).sum()
    first = torch.autograd.grad(total, anchors, retain_graph=True)
    assert torch.equal(torch.autograd.grad(total, anchors)[0], first[0])


@pytest.mark.parametrize("form", OTHERS)
def test_learnable_weights_take_the_plain_form(form: str) -> None:
    anchors, candidates, _, _ = problem(4, (30,))
    weights = torch.rand(4, 30, dtype=torch.float64).softmax(1).requires_grad_()
    with force_form(form):
        loss = info_nce(anchors, candidates[0], weights, temperature=0.5)
    assert torch.autograd.grad(loss, weights)[0].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
def test_dtypes_and_autocast(dtype: torch.dtype, autocast: bool) -> None:
    anchors, candidates, _, _ = problem(9, (50,))
    results = []
    for form in FORMS:
        a, z = anchors.to(dtype).requires_grad_(), candidates[0].to(dtype).requires_grad_()
        with force_form(form), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = info_nce(a, z, temperature=0.2)
        grads = torch.autograd.grad(loss, (a, z), retain_graph=True)
        if form != "plain":
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                torch.testing.assert_close(torch.autograd.grad(loss, (a, z)), grads, rtol=0, atol=0)
        assert loss.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
        assert all(grad.dtype is dtype for grad in grads)
        results.append((loss, *grads))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


@pytest.mark.parametrize("form", OTHERS)
def test_huge_products_stay_finite(form: str) -> None:
    a = torch.tensor([[1e4, -1e4], [-1e4, 1e4]]).repeat(20, 1).requires_grad_()
    with force_form(form):
        loss = info_nce(a, a.detach().flip(0), temperature=0.1)
    assert loss.item() == pytest.approx(4e9, rel=0.01)
    assert torch.autograd.grad(loss, a)[0].isfinite().all()


def test_blocked_inside_compiled_code() -> None:
    torch._dynamo.reset()
    anchors, candidates, relation, terms = problem(6, (40, 5))
    anchors.requires_grad_()

    def total(a: Tensor) -> Tensor:
        return 2 * torch.stack(contrast(2 * a, candidates, relation, terms)).sum()

    compiled = torch.compile(total, backend="aot_eager")
    with force_form("blocked"):
        value, eager = compiled(anchors), total(anchors)
    torch.testing.assert_close(value, eager)
    torch.testing.assert_close(torch.autograd.grad(value, anchors), torch.autograd.grad(eager, anchors))


def test_the_form_is_chosen_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    anchors, candidates, relation, terms = problem(4, (10,))
    anchors.requires_grad_()
    monkeypatch.setitem(kernel.FULL, "cpu", 40)
    assert type(contrast(anchors, candidates, relation, terms)[0].grad_fn).__name__ == "_WholeBackward"
    monkeypatch.setitem(kernel.FULL, "cpu", 39)
    assert type(contrast(anchors, candidates, relation, terms)[0].grad_fn).__name__ == "_BlockedBackward"
    assert kernel.fits_full(4096, 4096, torch.device("cuda"))  # as measured on an H200
    assert not kernel.fits_full(1024, 65536, torch.device("cuda"))
    with pytest.raises(ValueError, match="form 'thin'"), force_form("thin"):
        pass


@pytest.mark.parametrize("anchor", ["student", "teacher", "both"])
@pytest.mark.parametrize("targets", ["hard", "soft"])
@pytest.mark.parametrize("form", ["columns", "prototypes"])
@pytest.mark.parametrize("bank", [0, 30])
def test_mcld_in_all_forms(anchor: str, targets: str, form: str, bank: int) -> None:
    if bank and anchor == "teacher":
        return
    common: dict[str, Any] = {"anchor": anchor, "targets": targets, "temperature": 0.3}
    g = torch.Generator().manual_seed(0)
    s, t, more = (torch.randn(k, 40, generator=g, dtype=torch.float64) for k in (18, 18, 25))
    y, y_more = (torch.randint(40, (k,), generator=g) for k in (18, 25))
    s.requires_grad_()
    method = MCLD(common, {**common, "temperature": 0.2}, {**common, "form": form}, bank=bank).eval()
    if bank:
        method.bank.extend(more, y_more, torch.arange(25))
    results = []
    for kind in FORMS:
        with force_form(kind):
            terms = method(s, t, y, 1.0, torch.arange(10, 28))
        results.append((terms, torch.autograd.grad(torch.stack(list(terms.values())).sum(), s)))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("anchor", ["student", "teacher", "both"])
@pytest.mark.parametrize("targets", ["hard", "soft"])
@pytest.mark.parametrize("center", [True, False])
def test_the_gradient_of_mcld_at_small_sizes(anchor: str, targets: str, center: bool) -> None:
    common: dict[str, Any] = {"anchor": anchor, "targets": targets, "temperature": 0.5, "weight": 1.7}
    g = torch.Generator().manual_seed(0)
    s, t = (torch.randn(4, 3, generator=g, dtype=torch.float64) for _ in range(2))
    method = MCLD(common, common, common, center=center)
    y = torch.tensor([0, 1, 1, 2])
    s.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: tuple(method(s, t, y, 1.0).values()), (s,))
    assert torch.autograd.gradgradcheck(lambda s: tuple(method(s, t, y, 1.0).values()), (s,))


def test_small_sizes_of_mcld_are_one_function() -> None:
    s = torch.randn(4, 3, requires_grad=True)
    terms = MCLD(category={"warmup": 0})(s, torch.randn(4, 3), torch.tensor([0, 1, 1, 2]))
    assert len({term.grad_fn for term in terms.values()}) == 1


def test_the_teacher_may_come_from_inference_mode_and_be_overwritten() -> None:
    g = torch.Generator().manual_seed(0)
    s = torch.randn(4, 3, generator=g).requires_grad_()
    y = torch.tensor([0, 1, 1, 2])
    with torch.inference_mode():
        made = torch.randn(4, 3, generator=g)
    t = made.clone()
    terms, same = MCLD()(s, made, y, progress=1), MCLD()(s, t, y, progress=1)
    t.zero_()
    found, expected = (torch.autograd.grad(torch.stack(list(one.values())).sum(), s) for one in (terms, same))
    torch.testing.assert_close(found, expected)


def test_a_batch_of_gradients_of_one_term() -> None:
    s, y = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 1, 2])
    for term in MCLD()(s, torch.randn(4, 3), y, progress=1).values():
        (one,) = torch.autograd.grad(term, s, retain_graph=True)
        both = [torch.tensor([1.0, 2.0])]
        (many,) = torch.autograd.grad((term,), (s,), both, is_grads_batched=True, retain_graph=True)
        torch.testing.assert_close(many, torch.stack([one, 2 * one]))


def test_the_order_of_the_terms_is_that_of_the_perspectives() -> None:
    s, y = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 1, 2])
    terms = MCLD(instance={"anchor": "teacher"})(s, torch.randn(4, 3), y, progress=1)
    assert list(terms) == ["instance", "sample", "category"]


def test_a_half_precision_row_is_constant_in_every_derivative() -> None:
    s = torch.tensor([[1000.0, 1000.0, 1004.0, 1000.0], [0.0, 1.0, 2.0, 3.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = MCLD(category={"weight": 0}, softmax=None)(s, torch.randn(2, 4), torch.tensor([0, 1]))["instance"]
    (first,), (second,) = (
        torch.autograd.grad(loss, s, retain_graph=True, create_graph=again) for again in (False, True)
    )
    torch.testing.assert_close(second, first)
    assert torch.equal(first[0], torch.zeros(4, dtype=torch.bfloat16))
