"""MCLD against plain loops, its identities, its gradient, and what it refuses."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import nce as reference
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from mcld import KD, MCLD, InputError, info_nce
from mcld.contrast import Contrast
from mcld.methods import Category, Instance, Outputs, Sample, combine
from mcld.methods._standardize import standardize_rows
from mcld.methods.mcld import terms as mcld_terms
from mcld.methods.mcld.terms import term_of
from mcld.rows import unit_rows

OFF = {"weight": 0.0}
LOGITS = MCLD.presets["logits"]


def on_logits(*perspectives: Any, **options: Any) -> MCLD:
    """MCLD on logits; its weights are 1 and its temperatures 0.1 where no perspective is given."""
    return MCLD(*perspectives, **{"softmax": None, **({} if perspectives else LOGITS), **options})


def batch(B: int = 6, C: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Student logits, teacher logits, labels."""
    g = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(B, C, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
    return s, t, torch.randint(C, (B,), generator=g)


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def gradient(method: MCLD, s: Tensor, t: Tensor, y: Tensor, **more: Any) -> Tensor:
    s = s.detach().clone().requires_grad_()
    return torch.autograd.grad(total(method(s, t, y, **more, progress=1)), s)[0]


# Every reading: anchor side, targets, Target Mask, form, centring, bank.
READINGS = [
    (anchor, targets, target_mask, form, center, bank)
    for anchor, targets, target_mask, form, center, bank in itertools.product(
        ("student", "teacher", "both"),
        ("hard", "soft"),
        (True, False),
        ("columns", "prototypes"),
        (True, False),
        (0, 5),
    )
    if not (bank and anchor == "teacher")
]


def reading(anchor: str, targets: str, target_mask: bool, form: str) -> tuple[Instance, Sample, Category]:
    common: dict[str, Any] = {"anchor": anchor, "targets": targets}
    return (
        Instance(weight=1.5, temperature=0.4, target_mask=target_mask, target_temperature=0.6, **common),
        Sample(weight=0.7, temperature=0.3, **common),
        Category(weight=2.0, temperature=0.5, form=form, warmup=0.4, **common),
    )


@pytest.mark.parametrize(("anchor", "targets", "target_mask", "form", "center", "bank"), READINGS)
def test_equals_the_loop(anchor: str, targets: str, target_mask: bool, form: str, center: bool, bank: int) -> None:
    instance, sample, category = reading(anchor, targets, target_mask, form)
    method = on_logits(instance, sample, category, center=center, bank=bank)
    s, t, y = batch()
    more, more_labels = batch(bank, seed=1)[1:] if bank else (None, None)
    if more is not None and more_labels is not None:
        method.bank.extend(more, more_labels)
    terms = method(s, t, y, progress=0.1)
    expected = reference.mcld(
        s, t, y, instance=instance, sample=sample, category=category,
        center=center, progress=0.1, bank=more, bank_labels=more_labels,
    )  # fmt: skip
    assert list(terms) == ["instance", "sample", "category"]
    for name, value in terms.items():
        assert value.shape == ()
        assert value.item() == pytest.approx(expected[name], rel=1e-10, abs=1e-12)


@given(B=st.integers(1, 8), C=st.integers(1, 6), seed=st.integers(0, 999), labels=st.data())
@settings(max_examples=60, deadline=None)
def test_any_shapes_and_labels(B: int, C: int, seed: int, labels: st.DataObject) -> None:
    s, t, _ = batch(B, C, seed)
    y = torch.tensor(labels.draw(st.lists(st.integers(0, C - 1), min_size=B, max_size=B)))
    for form in ("columns", "prototypes"):
        instance, sample, category = reading("both", "hard", True, form)
        terms = on_logits(instance, sample, category)(s, t, y, progress=1)
        expected = reference.mcld(s, t, y, instance=instance, sample=sample, category=category)
        for name, value in terms.items():
            assert value.item() == pytest.approx(expected[name], rel=1e-9, abs=1e-10)


@pytest.mark.parametrize(("anchor", "targets", "target_mask", "form", "center", "bank"), READINGS[::5])
def test_gradient(anchor: str, targets: str, target_mask: bool, form: str, center: bool, bank: int) -> None:
    method = MCLD(*reading(anchor, targets, target_mask, form), center=center, bank=bank).eval()
    s, t, y = batch(B=4, C=3)
    if bank:
        method.bank.extend(*batch(bank, C=3, seed=1)[1:])
    s.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: total(method(s, t, y, 0.3)), (s,))


def test_no_gradient_reaches_the_teacher() -> None:
    s, t, y = batch()
    s.requires_grad_()
    t.requires_grad_()
    for anchor in ("student", "teacher", "both"):
        for form in ("columns", "prototypes"):
            torch.autograd.backward(total(MCLD(*reading(anchor, "soft", True, form))(s, t, y, progress=1)))
    assert t.grad is None
    assert s.grad is not None


# The identities of MCLD.md


def test_ckd_is_one_setting() -> None:
    s, t, y = batch()
    method = on_logits(Instance(1.0, temperature=1.0, anchor="teacher", target_mask=False), OFF, OFF, center=False)
    ckd = F.cross_entropy(F.normalize(t, dim=1) @ F.normalize(s, dim=1).T, torch.arange(len(s)))
    torch.testing.assert_close(method(s, t, y)["instance"], ckd)


@pytest.mark.parametrize("form", ["columns", "prototypes"])
@pytest.mark.parametrize("targets", ["hard", "soft"])
def test_row_terms_are_blind_to_scale_and_shift(form: str, targets: str) -> None:
    s, t, y = batch()
    scale, shift = torch.rand(4, 6, 1, dtype=torch.float64) * 5 + 0.1, torch.randn(4, 6, 1, dtype=torch.float64) * 9
    method = on_logits(*reading("both", targets, True, form))
    before = method(s, t, y, progress=1)
    after = method(s * scale[0] + shift[0], t * scale[1] + shift[1], y, progress=1)
    for name in ("instance", "sample"):
        torch.testing.assert_close(after[name], before[name])
    if form == "prototypes":  # a mean row does see the scale of its parts, not their shift
        shifted = method(s + shift[0], t + shift[1], y, progress=1)
        torch.testing.assert_close(shifted["category"], before["category"])


@pytest.mark.parametrize(("anchor", "targets", "target_mask", "form", "center", "bank"), READINGS[::3])
def test_order_of_images_and_classes(
    anchor: str, targets: str, target_mask: bool, form: str, center: bool, bank: int
) -> None:
    method = MCLD(*reading(anchor, targets, target_mask, form), center=center, bank=bank).eval()
    s, t, y = batch()
    more, more_labels = batch(5, seed=1)[1:]
    if bank:
        method.bank.extend(more, more_labels)
    before = method(s, t, y, progress=1)
    images = torch.randperm(6)
    torch.testing.assert_close(method(s[images], t[images], y[images], progress=1), before)
    classes = torch.randperm(4)
    new_label = classes.argsort()
    if bank:
        method.bank.extend(more[:, classes], new_label[more_labels])
    torch.testing.assert_close(method(s[:, classes], t[:, classes], new_label[y], progress=1), before)


@pytest.mark.parametrize("target_mask", [True, False])
@pytest.mark.parametrize("targets", ["hard", "soft"])
@pytest.mark.parametrize("anchor", ["student", "teacher", "both"])
def test_with_one_image_per_class_instance_is_sample(target_mask: bool, targets: str, anchor: str) -> None:
    s, t, _ = batch(B=5, C=7)
    options: dict[str, Any] = {"anchor": anchor, "targets": targets}
    terms = MCLD(Instance(target_mask=target_mask, **options), Sample(**options))(
        s, t, torch.tensor([6, 0, 3, 2, 5]), progress=1
    )
    torch.testing.assert_close(terms["instance"], terms["sample"])


@pytest.mark.parametrize(
    ("anchor", "target_mask", "form", "center", "bank"), [r[:1] + r[2:] for r in READINGS if r[1] == "soft"]
)
def test_soft_targets_are_minimised_at_the_teacher(
    anchor: str, target_mask: bool, form: str, center: bool, bank: int
) -> None:
    _, t, y = batch()
    common: dict[str, Any] = {"anchor": anchor, "targets": "soft", "temperature": 0.3}
    options = (Instance(target_mask=target_mask, **common), Sample(**common), Category(form=form, **common))
    method = MCLD(*options, center=center, bank=bank).eval()
    if bank:
        method.bank.extend(*batch(5, seed=1)[1:])
    assert gradient(method, t, t, y).abs().max() < 1e-12
    here = total(method(t, t, y, progress=1))
    for seed in range(5):
        near = t + 0.1 * batch(seed=seed)[0]
        assert total(method(near, t, y, progress=1)) > here


def test_hard_targets_are_not_minimised_at_the_teacher() -> None:
    _, t, y = batch()
    assert gradient(MCLD(), t, t, y).abs().max() > 1e-3


@pytest.mark.parametrize("form", ["columns", "prototypes"])
def test_uniform_similarities_give_log_n(form: str) -> None:
    # Nothing has a direction, so that all similarities are 0.
    s = torch.full((6, 4), 3.0, dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 3, 3, 3])
    terms = on_logits(Instance(1.0, target_mask=False), Sample(1.0), Category(1.0, form=form))(s, s, y, progress=1)
    assert terms["instance"].item() == pytest.approx(math.log(6))
    assert terms["sample"].item() == pytest.approx(math.log(6))
    assert terms["category"].item() == pytest.approx(math.log(4 if form == "columns" else 3))  # class 2 is absent


def test_terms_are_the_public_kernel_with_arguments() -> None:
    s, t, y = batch()
    terms = on_logits()(s, t, y, progress=1)
    a, z, same = unit_rows(s), unit_rows(t), y.unsqueeze(1) == y
    mask = ~same | torch.eye(6, dtype=torch.bool)
    targets = same / same.sum(1, keepdim=True).double()
    torch.testing.assert_close(terms["instance"], info_nce(a, z, mask=mask, temperature=0.1))
    torch.testing.assert_close(terms["sample"], info_nce(a, z, targets, temperature=0.1))
    torch.testing.assert_close(terms["category"], info_nce(unit_rows(s.T), unit_rows(t.T), temperature=0.1))


# Bank


@pytest.mark.parametrize("targets", ["hard", "soft"])
@pytest.mark.parametrize("anchor", ["student", "both"])
def test_a_bank_of_just_the_batch_changes_nothing(targets: str, anchor: str) -> None:
    s, t, y = batch()
    options = reading(anchor, targets, True, "prototypes")
    index = torch.tensor([3, 1, 4, 15, 9, 2])
    plain, wide = MCLD(*options), MCLD(*options, bank=6)
    wide.bank.extend(t.flip(0) + 1.0, y.flip(0), index.flip(0))  # other views of the same images
    torch.testing.assert_close(wide(s, t, y, 1.0, index), plain(s, t, y, 1.0, index))
    filled = MCLD(*options)
    filled.fill_bank(t, y, index)
    torch.testing.assert_close(filled(s, t, y, 1.0, index), plain(s, t, y, progress=1))
    torch.testing.assert_close(gradient(filled, s, t, y, index=index), gradient(plain, s, t, y))


@pytest.mark.parametrize("standardize", [False, True])
def test_a_bank_of_all_training_images_is_filled_once_and_compared_with(standardize: bool) -> None:
    """Each image of the batch is its own candidate only once, as it is in the batch."""
    s, t, y = batch()
    more, more_labels = batch(9, seed=1)[1:]
    index = torch.tensor([3, 1, 4, 8, 0, 2])
    options = reading("both", "soft", True, "prototypes")
    whole = on_logits(*options, bank=-1, standardize=standardize, center=False)
    assert whole.training_bank
    with pytest.raises(InputError, match="bank is -1 and holds nothing yet; expected fill_bank"):
        whole(s, t, y, 1.0, index)
    whole.fill_bank(more, more_labels, torch.arange(9))
    others = [5, 6, 7]
    ring = on_logits(*options, bank=3, standardize=standardize, center=False)
    ring.bank.extend(standardize_rows(more[others]) if standardize else more[others], more_labels[others])
    expected = ring(s, t, y, 1.0, index)
    for _ in range(2):  # the batch does not enter it
        torch.testing.assert_close(whole(s, t, y, 1.0, index), expected)
    combined = combine({"mcld": whole, "kd": KD()})
    assert combined.training_bank
    assert not combine({"mcld": ring, "kd": KD()}).training_bank
    combined.fill_bank(more.flip(0), more_labels.flip(0), torch.arange(9).flip(0))
    torch.testing.assert_close(combined(s, t, y, 1.0, index)["mcld.sample"], expected["sample"])
    assert combined.state_dict()["methods.mcld.bank._extra_state"] == {}


@pytest.mark.parametrize("form", ["columns", "prototypes"])
def test_probabilities_in_place_of_logits(form: str) -> None:
    s, t, y = batch()
    more, more_labels = batch(9, seed=1)[1:]
    index = torch.tensor([3, 1, 4, 8, 0, 2])
    options = reading("student", "soft", True, form)
    method, same = on_logits(*options, softmax=2.0, bank=-1), on_logits(*options, bank=-1)
    method.fill_bank(more, more_labels, torch.arange(9))
    same.fill_bank((more / 2).softmax(dim=1), more_labels, torch.arange(9))
    expected = same((s / 2).softmax(dim=1), (t / 2).softmax(dim=1), y, 1.0, index)
    torch.testing.assert_close(method(s, t, y, 1.0, index), expected)
    shifted = method(s + torch.arange(6).unsqueeze(1), t - 3, y, 1.0, index)
    torch.testing.assert_close(shifted, expected)
    s.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: tuple(method(s, t, y, 1.0, index).values()), (s,))
    half = on_logits(softmax=4.0)(s.half(), t.half(), y, progress=1)
    torch.testing.assert_close(half, on_logits(softmax=4.0)(s.half().float(), t.half().float(), y, progress=1))


@pytest.mark.parametrize("scale", [40.0, 60.0, 100.0, 1e4])
def test_probabilities_of_huge_logits_are_finite(scale: float) -> None:
    """At some scales a class has a probability below the smallest normal number in the whole batch."""
    for seed in range(5):
        s, t, y = batch(16, 100, seed, dtype=torch.float32)
        s = (scale * s).requires_grad_()
        terms = MCLD(softmax=1.0)(s, scale * t, y, progress=1)
        assert all(term.isfinite() for term in terms.values())
        assert torch.autograd.grad(total(terms), s)[0].isfinite().all()


def test_methods_without_a_bank_refuse_one() -> None:
    t, y = batch()[1:]
    with pytest.raises(InputError, match="KD has no bank to fill"):
        KD().fill_bank(t, y)
    with pytest.raises(InputError, match="bank is -2; expected a number of rows, at least 0, or -1 for all training"):
        MCLD(bank=-2)
    with pytest.raises(InputError, match=r"instance\.anchor is 'teacher', but the bank holds teacher rows"):
        MCLD(Instance(anchor="teacher"), bank=-1)


def test_images_of_unknown_index_are_all_kept() -> None:
    s, t, y = batch()
    instance, sample, category = reading("student", "hard", True, "prototypes")
    more, more_labels = batch(4, seed=1)[1:]
    unknown = torch.full((6,), -1)
    for known in (None, unknown):
        method = on_logits(instance, sample, category, bank=10)
        method.bank.extend(more, more_labels)
        terms = method(s, t, y, 1.0, known)
        expected = reference.mcld(
            s, t, y, instance=instance, sample=sample, category=category, bank=more, bank_labels=more_labels
        )
        assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected)


def test_batches_enter_the_bank_in_training_only() -> None:
    method = MCLD(bank=8)
    s, t, y = batch()
    method.eval()
    method(s, t, y, progress=1)
    assert method.bank.logits is None
    method.train()
    with torch.no_grad():
        first = method(s, t, y, 1.0, torch.arange(6))
    assert method.bank.index is not None
    assert method.bank.index.tolist() == [0, 1, 2, 3, 4, 5, -1, -1]
    torch.testing.assert_close(first, MCLD()(s, t, y, progress=1))  # a batch is no candidate for itself twice
    method(s, t, y, 1.0, torch.arange(6, 12))
    assert method.bank.index.tolist() == [8, 9, 10, 11, 4, 5, 6, 7]
    method.eval()
    method(s, t, y, 1.0, torch.arange(20, 26))
    assert method.bank.index.tolist() == [8, 9, 10, 11, 4, 5, 6, 7]


def test_a_filled_bank_stays() -> None:
    method = on_logits()
    rows, labels = batch(20, seed=1)[1:]
    method.fill_bank(rows, labels, torch.arange(20))
    s, t, y = batch()
    method(s, t, y, 1.0, torch.arange(6))
    assert method.bank.logits is not None
    assert torch.equal(method.bank.logits, rows)
    options = (method.instance, method.sample, method.category)
    expected = reference.mcld(
        s, t, y, instance=options[0], sample=options[1], category=options[2], bank=rows[6:], bank_labels=labels[6:]
    )
    terms = method(s, t, y, 1.0, torch.arange(6))
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected)


def test_resume_is_exact_with_a_bank(tmp_path: Path) -> None:
    batches = [(*batch(seed=k), torch.randint(30, (6,))) for k in range(6)]
    straight, stopped = MCLD(bank=10), MCLD(bank=10)
    for s, t, y, index in batches[:3]:
        straight(s, t, y, 1.0, index)
        stopped(s, t, y, 1.0, index)
    torch.save(stopped.state_dict(), tmp_path / "state.pt")
    resumed = MCLD(bank=10)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for s, t, y, index in batches[3:]:
        expected = straight(s, t, y, 1.0, index)
        for name, value in resumed(s, t, y, 1.0, index).items():
            assert torch.equal(value, expected[name])


# Numbers


@pytest.mark.parametrize("gap", [100.0, 1000.0, 1e4])
def test_classes_that_are_unlikely_in_all_images_keep_their_direction(gap: float) -> None:
    """Their probabilities at temperature 4 are e⁻²⁵⁰ and less, which is 0 in float32; their columns still differ."""
    g = torch.Generator().manual_seed(0)
    s, t = (3 * torch.randn(16, 10, generator=g) for _ in range(2))
    labels = torch.arange(16) % 10
    found = []
    for off in (100.0, gap):  # softmax at any gap: beyond 100 nothing is left to change
        for step_by_step in (False, True):
            student, teacher = s.clone(), t.clone()
            student[:, :5] -= off
            teacher[:, :5] -= off
            student.requires_grad_()
            if step_by_step:
                one = mcld_terms.Perspectives(True, {"category": Category()})
                logs = [(x / 4).log_softmax(dim=1) for x in (student, teacher)]
                (value,) = mcld_terms._step_by_step([one], True, True, *logs)
            else:
                value = MCLD(category={"warmup": 0})(student, teacher, labels)["category"]
            (grad,) = torch.autograd.grad(value, student, create_graph=True)
            (second,) = torch.autograd.grad(grad.square().sum(), student)
            assert second.isfinite().all()
            found.append((value.detach(), grad.detach()))
    low = torch.tensor([-gap] * 5 + [0.0] * 5, dtype=torch.float64)
    exact = MCLD(category={"warmup": 0})(s.double() + low, t.double() + low, labels)["category"].item()
    assert found[0][0].item() == pytest.approx(exact, rel=1e-5)
    for value, grad in found:
        torch.testing.assert_close(value, found[0][0], rtol=1e-4, atol=0)
        torch.testing.assert_close(grad, found[0][1], rtol=0, atol=1e-3)
        assert grad[:, :5].abs().max() > 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["columns", "prototypes"])
@pytest.mark.parametrize("anchor", ["student", "teacher", "both"])
def test_extreme_logits(dtype: torch.dtype, form: str, anchor: str) -> None:
    s, t, y = batch(dtype=dtype)
    s, t = s.sign() * 1e4, t.sign() * 1e4
    s[0], t[1], t[2], s[2], s[3] = 0.0, 0.0, 1e4, 1e4, -1e4  # rows without a direction
    method = MCLD(*reading(anchor, "hard", True, form))
    s.requires_grad_()
    terms = method(s, t, y, progress=1)
    for term in terms.values():
        assert term.isfinite()
        assert term.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    grad = torch.autograd.grad(total(terms), s)[0]
    assert grad.isfinite().all()
    assert grad.dtype is dtype
    if form == "prototypes" and anchor == "student":  # rows only, so a constant row gets nothing
        assert not grad[[0, 2, 3]].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["columns", "prototypes"])
def test_half_precision_differs_by_its_input_only(dtype: torch.dtype, form: str) -> None:
    s, t, y = batch(dtype=dtype)
    method = MCLD(*reading("both", "soft", True, form))
    torch.testing.assert_close(method(s, t, y, progress=1), method(s.float(), t.float(), y, progress=1))
    torch.testing.assert_close(method(s, t.float(), y, progress=1), method(s.float(), t.float(), y, progress=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["columns", "prototypes"])
def test_autocast_changes_nothing(dtype: torch.dtype, form: str) -> None:
    s, t, y = batch(dtype=torch.float32)
    method = MCLD(*reading("both", "soft", True, form), bank=7)
    method.bank.extend(*batch(5, seed=1, dtype=torch.float32)[1:])
    method.eval()
    plain = method(s, t, y, progress=1)
    with torch.autocast("cpu", dtype=dtype):
        inside = method(s, t, y, progress=1)
    for name, value in plain.items():
        assert torch.equal(inside[name], value)


@pytest.mark.parametrize("form", ["columns", "prototypes"])
def test_one_image(form: str) -> None:
    s, t, _ = batch(B=1)
    s.requires_grad_()
    terms = on_logits(category=Category(1.0, form=form))(s, t, torch.tensor([2]), progress=1)
    assert terms["instance"].item() == pytest.approx(0.0, abs=1e-12)
    assert terms["sample"].item() == pytest.approx(0.0, abs=1e-12)
    # A column of one number has no direction; the prototype of the one class is the only candidate.
    assert terms["category"].item() == pytest.approx(math.log(4) if form == "columns" else 0.0, abs=1e-12)
    grad = torch.autograd.grad(total(terms), s)[0]
    torch.testing.assert_close(grad, torch.zeros_like(grad))


# Options


def test_ramp() -> None:
    s, t, y = batch()
    full = MCLD(category={"warmup": 0})(s, t, y, progress=0.0)
    for progress, factor in ((0.0, 0.0), (0.15, 0.5), (0.3, 1.0), (0.9, 1.0)):
        terms = MCLD()(s, t, y, progress=progress)
        torch.testing.assert_close(terms["category"], factor * full["category"])
        assert torch.equal(terms["instance"], full["instance"])


@pytest.mark.parametrize("form", ["columns", "prototypes"])
def test_a_weight_of_zero_is_not_computed(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s, t, y = batch()
    computed: list[str] = []

    def noted(options: Sample) -> Contrast:
        computed.append(type(options).__name__.lower())
        return term_of(options)

    monkeypatch.setattr(mcld_terms, "term_of", noted)
    names = ["instance", "sample", "category"]
    for some in [*itertools.combinations(names, 1), *itertools.combinations(names, 2)]:
        weights = {name: {"weight": float(name in some)} for name in names}
        method = MCLD(weights["instance"], weights["sample"], {**weights["category"], "form": form})
        computed.clear()
        assert list(method(s, t, y, progress=1)) == computed == list(some)


def test_terms_scale_with_their_weights() -> None:
    s, t, y = batch()
    one = on_logits()(s, t, y, progress=1)
    options = [{"weight": weight, "temperature": 0.1} for weight in (2, 3, 0.5)]
    other = on_logits(*options)(s, t, y, progress=1)
    for name, factor in (("instance", 2), ("sample", 3), ("category", 0.5)):
        torch.testing.assert_close(other[name], factor * one[name])


def test_options_are_copied() -> None:
    options = Instance()
    method = MCLD(instance=options)
    options.weight = -1.0
    assert method.instance.weight == 3.0
    method.instance.weight = 7.0
    assert MCLD().instance.weight == 3.0


def test_outputs_are_accepted() -> None:
    s, t, y = batch()
    torch.testing.assert_close(MCLD()(Outputs(s), Outputs(t), y, progress=1), MCLD()(s, t, y, progress=1))


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"softmax": 0}, "softmax is 0; expected a positive number"),
    ({"instance": {"weight": -1}}, "instance.weight is -1; expected a number of at least 0"),
    ({"sample": {"temperature": 0}}, "sample.temperature is 0; expected a positive number"),
    ({"category": {"temperature": math.nan}}, "category.temperature is nan; expected a positive number"),
    ({"category": {"weight": math.inf}}, "category.weight is inf; expected a number of at least 0"),
    ({"category": {"weight": "2"}}, "category.weight is '2'; expected a number"),
    ({"sample": {"target_temperature": -2}}, "sample.target_temperature is -2; expected a positive number"),
    ({"instance": {"anchor": "pupil"}}, "instance.anchor is 'pupil'; expected 'student' or 'teacher' or 'both'"),
    ({"sample": {"targets": "softer"}}, "sample.targets is 'softer'; expected 'hard' or 'soft'"),
    ({"category": {"form": "rows"}}, "category.form is 'rows'; expected 'columns' or 'prototypes'"),
    ({"category": {"warmup": 1.5}}, "category.warmup is 1.5; expected a share of training, from 0 to 1"),
    ({"category": {"warmup": -0.1}}, "category.warmup is -0.1;"),
    ({"instance": {"target_mask": "yes"}}, "instance.target_mask is 'yes'; expected True or False"),
    ({"instance": {"temprature": 1}}, "no option of instance 'temprature'; did you mean 'temperature'"),
    ({"sample": {"target_mask": True}}, "no option of sample 'target_mask'; did you mean 'targets'"),
    ({"sample": Instance()}, r"sample is Instance\(.*expected Sample\(...\) or a mapping"),
    ({"instance": 3}, r"instance is 3; expected Instance\(...\) or a mapping"),
    ({"center": 1}, "center is 1; expected True or False"),
    ({"bank": -2}, "bank is -2; expected a number of rows, at least 0, or -1 for all training images"),
    ({"bank": 2.5}, "bank is 2.5;"),
    ({"bank": True}, "bank is True;"),
    ({"instance": OFF, "sample": OFF, "category": OFF}, "are all 0; expected one that is positive"),
    ({"bank": 9, "instance": {"anchor": "teacher"}}, "instance.anchor is 'teacher', but the bank holds teacher rows"),
    ({"bank": 9, "sample": {"anchor": "teacher"}}, "sample.anchor is 'teacher'"),
    ({"bank": 9, "category": {"anchor": "teacher", "form": "prototypes"}}, "category.anchor is 'teacher'"),
    ({"bank": 9, "instance": OFF, "sample": OFF}, "no term compares rows; expected bank 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS, ids=[message[:45] for _, message in BAD_OPTIONS])
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        MCLD(**options)
    assert "\n" not in str(caught.value)


def test_a_bank_is_refused_only_where_it_would_be_used() -> None:
    MCLD(bank=9, category={"anchor": "teacher"})  # columns know no bank
    MCLD(bank=9, instance={"weight": 0, "anchor": "teacher"})
    with pytest.raises(InputError, match=r"instance.anchor is 'teacher'"):
        MCLD(instance={"anchor": "teacher"}).fill_bank(torch.zeros(2, 3), torch.tensor([0, 1]))


S, Y = torch.eye(3), torch.arange(3)
BAD_INPUT: list[tuple[dict[str, Any], str]] = [
    ({"student": S[0]}, r"student logits have shape \(3,\); expected \(B, C\)"),
    ({"teacher": S.unsqueeze(0)}, r"teacher logits have shape \(1, 3, 3\)"),
    ({"student": S.long()}, "student logits are torch.int64; expected floating point"),
    ({"teacher": S[:2]}, "student has 3 rows and teacher 2; expected the same images"),
    ({"teacher": torch.zeros(3, 5)}, "student has 3 classes and teacher 5; expected the same classes"),
    (
        {"student": S[:0], "teacher": S[:0], "labels": Y[:0]},
        r"the logits have shape \(0, 3\); expected at least one image",
    ),
    ({"labels": Y[:2]}, r"labels have shape \(2,\); expected \(3,\)"),
    ({"labels": Y.float()}, "labels are torch.float32; expected integers"),
    ({"labels": Y + 1}, "labels range from 1 to 3; expected 0 to 2 for 3 classes"),
    ({"labels": Y - 1}, "labels range from -1 to 1;"),
    ({"student": S.log()}, "student logits hold 6 NaN or Inf values of 9; expected finite numbers"),
    ({"teacher": S * math.nan}, "teacher logits hold 9 NaN or Inf"),
    ({"progress": 1.01}, "progress is 1.01; expected a share of training, from 0 to 1"),
    ({"progress": -0.1}, "progress is -0.1;"),
    ({"progress": math.nan}, "progress is nan;"),
    ({"index": Y[:1]}, r"index have shape \(1,\); expected \(3,\)"),
    ({"index": Y.float()}, "index are torch.float32; expected integers"),
]


@pytest.mark.parametrize(("change", "message"), BAD_INPUT, ids=[message[:45] for _, message in BAD_INPUT])
def test_bad_input(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"student": S, "teacher": S, "labels": Y, "progress": 1} | change
    with pytest.raises(InputError, match=message) as caught:
        MCLD()(**arguments)
    assert "\n" not in str(caught.value)


def test_classes_that_differ_from_the_bank() -> None:
    method = MCLD(bank=4)
    method.bank.extend(torch.zeros(2, 5), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="logits have 3 classes and the bank 5; expected the same classes"):
        method(S, S, Y, progress=1)


def test_values_are_not_looked_at_when_the_loop_says_so() -> None:
    method = MCLD()
    method.check_values = False
    assert method(S * math.nan, S, Y, progress=1)["instance"].isnan()


# torch.compile


@pytest.mark.parametrize("form", ["columns", "prototypes"])
def test_compiled(form: str) -> None:
    method = MCLD(*reading("both", "soft", True, form))
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(method, backend=counter, fullgraph=True)
    for step, progress in enumerate((0.1, 0.2, 0.3, 0.5, 0.7, 0.9)):
        s, t, y = batch(seed=step)
        s.requires_grad_()
        terms, expected = compiled(s, t, y, progress), method(s, t, y, progress)
        torch.testing.assert_close(terms, expected)
        torch.testing.assert_close(
            torch.autograd.grad(total(terms), s), torch.autograd.grad(total(expected), s), atol=1e-12, rtol=1e-9
        )
    assert counter.frame_count <= 4  # not anew for every value of progress


def test_compiled_with_a_bank() -> None:
    torch._dynamo.reset()
    eager, same = MCLD(bank=10), MCLD(bank=10)
    compiled = torch.compile(same, backend="aot_eager")
    for step in range(4):
        s, t, y = batch(seed=step)
        index = torch.arange(4 * step, 4 * step + 6)
        torch.testing.assert_close(compiled(s, t, y, 1.0, index), eager(s, t, y, 1.0, index))
    assert eager.bank.index is not None
    assert same.bank.index is not None
    assert torch.equal(same.bank.index, eager.bank.index)


@pytest.mark.slow
def test_compiled_by_inductor() -> None:
    torch._dynamo.reset()
    method = MCLD()
    s, t, y = batch(dtype=torch.float32)
    s.requires_grad_()
    terms = torch.compile(method)(s, t, y)
    expected = method(s, t, y)
    torch.testing.assert_close(terms, expected)
    torch.testing.assert_close(torch.autograd.grad(total(terms), s), torch.autograd.grad(total(expected), s))
