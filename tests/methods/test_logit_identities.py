"""What ties the methods on logits together, their schedules, presets, and what they do as published."""

import inspect
import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcld import KD, MCLD, InputError, create_method, info_nce
from mcld.cli.methods import preset_words
from mcld.configs.compose import compose
from mcld.configs.schema import Distill
from mcld.methods import Method, Outputs, combine, list_methods, method_class
from mcld.methods._base import Shapes
from mcld.methods._standardize import standardize_rows
from mcld.methods.ctkd import CTKD
from mcld.methods.dkd import DKD, dkd_parts
from mcld.methods.kd import kd_loss, kd_total
from mcld.methods.mlkd import MLKD
from mcld.methods.sld import SLD, swap
from mcld.methods.ttm import ttm_parts
from mcld.methods.wttm import smoothness
from mcld.rows import unit_rows

SHAPES = Shapes(4)


def batch(B: int = 5, C: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    s, t = 2 * torch.randn(2, B, C, generator=g, dtype=torch.float64)
    return s, t, torch.randint(C, (B,), generator=g)


def of_240_epochs(method: Method) -> Method:
    method.prepare(SHAPES, SHAPES, 100, 240)
    return method


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


# Identities


@given(B=st.integers(1, 6), C=st.integers(2, 7), T=st.floats(0.5, 20), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_kd_is_dkd_with_the_non_target_part_scaled_by_what_is_not_the_target(
    B: int, C: int, T: float, seed: int
) -> None:
    s, t, y = batch(B, C, seed)
    target, nontarget = dkd_parts(s / T, t / T, y)
    p = (t / T).softmax(1)[torch.arange(B), y]
    torch.testing.assert_close(T**2 * (target + (1 - p) * nontarget).mean(), kd_loss(s, t, T), rtol=1e-8, atol=1e-12)


def test_dkd_of_images_with_equal_confidence_is_kd() -> None:
    # Where all images give their label the same probability, one beta makes the terms of DKD add up to KD.
    s, t, y = batch()
    others = t.clone().scatter(1, y.unsqueeze(1), -math.inf).logsumexp(1, keepdim=True)
    t = t.scatter(1, y.unsqueeze(1), others + math.log(3))  # 3/4 at temperature 1
    dkd = create_method("dkd", temperature=1, alpha=1, beta=0.25, warmup=0)(s, t, y)
    torch.testing.assert_close(total(dkd), KD(1, weight=1)(s, t, y)["kl"])


def test_dkd_of_two_classes_is_its_target_part() -> None:
    s, t, y = batch(C=2)
    terms = of_240_epochs(create_method("dkd", temperature=2))(s, t, y, progress=1)
    assert terms["nontarget"].item() == 0
    torch.testing.assert_close(terms["target"], kd_loss(s, t, 2))


def test_kd_at_high_temperature_is_half_of_centred_mse() -> None:
    s, t, y = batch()
    limit = KD(1e3, weight=1)(s, t, y)["kl"]
    mse = create_method("mse", weight=1, center=True)(s, t, y)["mse"]
    torch.testing.assert_close(limit, mse / 2, rtol=5e-3, atol=0)
    assert abs(limit - create_method("mse", weight=1)(s, t, y)["mse"] / 2) > 1e-3


@pytest.mark.parametrize("B", [1, 2, 7])
def test_ckd_is_the_preset_of_mcld(B: int) -> None:
    s, t, y = batch(B)
    ckd = create_method("ckd")(s, t, y)
    mcld = create_method("mcld", **MCLD.presets["ckd"])(s, t, y)
    assert list(mcld) == ["instance"]
    torch.testing.assert_close(ckd["contrast"], mcld["instance"])
    other = create_method("mcld", **{**MCLD.presets["ckd"], "center": True})(s, t, y)["instance"]
    assert B == 1 or abs(ckd["contrast"] - other) > 1e-3


@pytest.mark.parametrize("temperature", [0.5, 2.0, 10.0])
def test_wttm_without_its_weights_is_ttm(temperature: float) -> None:
    s, t, y = batch()
    weights = smoothness(t, temperature)
    assert weights.min() > 0
    assert weights.std() > 1e-3
    for i in range(len(s)):  # image by image, the weight is a factor
        one = s[i : i + 1], t[i : i + 1], y[i : i + 1]
        wttm = create_method("wttm", temperature=temperature, weight=2)(*one)["kl"]
        ttm = create_method("ttm", temperature=temperature, weight=2)(*one)["kl"]
        torch.testing.assert_close(wttm / weights[i], ttm)


def test_at_temperature_one_wttm_ttm_and_kd_are_the_same() -> None:
    s, t, y = batch()
    values = [create_method(name, temperature=1, weight=1)(s, t, y)["kl"] for name in ("kd", "ttm", "wttm")]
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(values[2], values[0])
    assert smoothness(t, 1.0).tolist() == pytest.approx([1.0] * 5)


def test_ttm_with_the_students_logits_multiplied_is_kd() -> None:
    s, t, _ = batch()
    torch.testing.assert_close(9 * ttm_parts(s / 3, t, 3.0).mean(), kd_loss(s, t, 3.0))


def test_ctkd_is_kd_at_its_temperature() -> None:
    s, t, y = batch()
    method = CTKD().double()
    method.epochs = 240
    torch.testing.assert_close(method(s, t, y, progress=1)["kl"], KD(method.temperature().item())(s, t, y)["kl"])


def test_nkd_of_one_class_less_is_cross_entropy_of_the_target() -> None:
    s, t, y = batch(C=2)  # the one other class has all that is left: log 1
    terms = create_method("nkd")(s, t, y)
    assert terms["nontarget"].item() == 0
    weights = t.softmax(1)[torch.arange(5), y]
    torch.testing.assert_close(terms["target"], (weights * F.cross_entropy(s, y, reduction="none")).mean())


def test_sld_of_a_teacher_that_is_right_is_kd_at_six_temperatures() -> None:
    s, t, _ = batch()
    right = SLD(start=1.0)(s, t, t.argmax(1), 0.5)
    torch.testing.assert_close(right["teacher"], 0.9 * sum(kd_loss(s, t, T) for T in (1, 2, 3, 4, 5, 6)))
    assert right["student"].item() == 0


def test_kd_total_is_a_sum() -> None:
    s, t, _ = batch()
    torch.testing.assert_close(kd_total(s, t, (1.0, 3.0)), kd_loss(s, t, 1) + kd_loss(s, t, 3))


def test_dist_is_blind_to_scale_and_shift_of_probabilities() -> None:
    _, t, y = batch()
    p = t.div(4).softmax(1)
    q = 0.3 * p + 0.7 / 4  # rows still sum to 1
    terms = create_method("dist")(4 * q.log(), t, y)
    assert total(terms).item() == pytest.approx(0, abs=1e-9)


def test_dist_sees_classes_of_vanishing_probability() -> None:
    s, t, y = batch()
    s[:, 1] -= 500  # e⁻⁵⁰⁰ is 0 in float32
    t[:, 1] -= 90  # e⁻⁹⁰ is nearly so
    method = create_method("dist", temperature=1)
    assert method(s.float(), t.float(), y)["intra"].item() == pytest.approx(method(s, t, y)["intra"].item(), rel=1e-4)
    q, p = (x.softmax(1).T.tolist() for x in (s, t))
    pairs = [([x / max(a) for x in a], b) for a, b in zip(q, p, strict=True)]  # as squares of e⁻⁵⁰⁰ are 0 even here
    expected = 2 * (1 - statistics.mean(statistics.correlation(a, b) for a, b in pairs))
    assert method(s, t, y)["intra"].item() == pytest.approx(expected, rel=1e-9)


def test_dist_of_one_image_has_no_columns() -> None:
    s, t, y = batch(1)
    assert create_method("dist", temperature=2, gamma=1)(s, t, y)["intra"].item() == 4


# The value at S = T


@pytest.mark.parametrize("name", ["mse", "kd", "dkd", "dist", "ctkd", "mlkd"])
def test_zero_with_zero_gradient_at_the_teacher(name: str) -> None:
    _, t, y = batch()
    s = t.clone().requires_grad_()
    terms = of_240_epochs(create_method(name)).double()(s, t, y, progress=1)
    for value in terms.values():
        assert value.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(total(terms), s)[0].abs().max() < 1e-12


def test_values_at_the_teacher_that_are_not_zero() -> None:
    _, t, y = batch()
    every = torch.arange(5)
    p, log_p = t.softmax(1), t.log_softmax(1)
    rest = torch.stack([row[[c for c in range(4) if c != label]] for row, label in zip(t, y.tolist(), strict=True)])
    entropy = -(rest.div(2).softmax(1) * rest.div(2).log_softmax(1)).sum(1).mean()
    nkd = create_method("nkd", temperature=2, gamma=1.5)(t, t, y)
    torch.testing.assert_close(nkd["target"], -(p * log_p)[every, y].mean())
    torch.testing.assert_close(nkd["nontarget"], 1.5 * 4 * entropy)

    entropies = -(t.div(2).softmax(1) * t.div(2).log_softmax(1)).sum(1)
    w = 1 - torch.exp(log_p[every, y] / (1e-7 - log_p[every, y]))  # 1 - 1/e but for the 1e-7
    torch.testing.assert_close(create_method("wsld")(t, t, y)["soft"], 2.5 * 4 * (w * entropies).mean())
    assert w.tolist() == pytest.approx([1 - math.exp(-1)] * 5, abs=1e-5)

    unit = unit_rows(t, center=False)
    torch.testing.assert_close(create_method("ckd")(t, t, y)["contrast"], 100 * info_nce(unit, unit, temperature=1.0))


@pytest.mark.parametrize("name", ["ttm", "wttm"])
def test_ttm_is_zero_at_the_transformed_teacher(name: str) -> None:
    _, t, y = batch()
    s = (t / 3).requires_grad_()
    loss = create_method(name, temperature=3)(s, t, y)["kl"]
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(loss, s)[0].abs().max() < 1e-12
    assert create_method(name, temperature=3)(t, t, y)["kl"] > 0.1


def test_sld_is_zero_at_the_teacher_put_right() -> None:
    _, t, y = batch()
    assert (t.argmax(1) != y).any()
    terms = SLD()(swap(t, y), t, y, progress=1)
    assert total(terms).item() == pytest.approx(0, abs=1e-12)
    assert SLD()(t, t, y, progress=1)["teacher"] > 0.1


# Standardised logits


@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_lskd_is_blind_to_scale_and_shift(scale: float, shift: float, seed: int) -> None:
    s, t, y = batch(seed=seed)
    for name in ("kd", "dkd", "mcld"):
        method, plain = of_240_epochs(create_method(name, standardize=True)), of_240_epochs(create_method(name))
        before = method(s, t, y, progress=1)
        after = method(scale * s + shift, t / scale - shift, y, progress=1)
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
        assert abs(total(plain(s, t, y, progress=1)) - total(before)) > 1e-3


def test_standardised_rows() -> None:
    z = standardize_rows(batch()[0])
    assert z.mean(1).abs().max() < 1e-12
    assert z.std(1, unbiased=True).tolist() == pytest.approx([1.0] * 5, abs=1e-6)
    assert z.std(1, unbiased=False).max() < 0.9  # not the biased one


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_constant_row_has_nothing_to_standardise(dtype: torch.dtype) -> None:
    x = torch.tensor([[7.0, 7.0, 7.0], [9999.0, 9999.0, 9999.0], [0.0, 0.0, 0.0], [1e4, -1e4, 0.0]], dtype=dtype)
    x.requires_grad_()
    z = standardize_rows(x)
    assert z.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    torch.testing.assert_close(z, torch.tensor([[0.0] * 3] * 3 + [[1.0, -1.0, 0.0]], dtype=z.dtype), atol=1e-3, rtol=0)
    (gradient,) = torch.autograd.grad((z * torch.tensor([1.0, 2.0, 5.0])).sum(), x)
    assert gradient[:3].abs().max() == 0
    assert gradient[3].isfinite().all()
    assert gradient[3].abs().max() > 0
    assert standardize_rows(torch.ones(2, 1)).tolist() == [[0.0], [0.0]]


def test_standardised_gradient() -> None:
    assert torch.autograd.gradcheck(standardize_rows, (batch()[0].requires_grad_(),))


def test_centred_row_cosines_do_not_see_standardisation_but_columns_do() -> None:
    s, t, y = batch()
    plain, standardised = (MCLD(standardize=flag, softmax=None)(s, t, y, progress=1) for flag in (False, True))
    for name in ("instance", "sample"):
        torch.testing.assert_close(standardised[name], plain[name], rtol=1e-5, atol=1e-6)
    assert abs(standardised["category"] - plain["category"]) > 1e-3


# Schedules


@pytest.mark.parametrize(("epochs", "steps"), [(10, 7), (60, 391), (240, 3), (7, 1)])
def test_the_epoch_of_every_step(epochs: int, steps: int) -> None:
    method = DKD()
    method.prepare(SHAPES, SHAPES, 100, epochs)
    for epoch in range(epochs):
        for step in {0, 1, steps // 2, steps - 1} & set(range(steps)):
            assert method.epoch((epoch * steps + step) / (epochs * steps)) == epoch + 1
    assert method.epoch(1.0) == epochs


def test_ramp_of_dkd() -> None:
    s, t, y = batch()
    full = DKD(warmup=0)(s, t, y)
    method = DKD()
    method.prepare(SHAPES, SHAPES, 100, 40)
    for epoch in range(40):
        for within in (0.0, 0.9):
            terms = method(s, t, y, (epoch + within) / 40)
            for name, value in terms.items():
                torch.testing.assert_close(value, min((epoch + 1) / 20, 1) * full[name])
    with pytest.raises(InputError, match=r"dkd counts epochs; expected how many there are: epochs=\.\.\. of the Dist"):
        DKD()(s, t, y, 9.5 / 240)


def test_student_comes_in_late_in_sld() -> None:
    s, t, y = batch()
    method = SLD()
    full = method(s, t, y, progress=1)
    assert full["student"] > 0.1
    for progress, expected in ((0.0, 0.0), (0.624, 0.0), (0.625, 1.0), (0.7, 1.0)):
        terms = method(s, t, y, progress)
        assert list(terms) == list(full)
        torch.testing.assert_close(terms["student"], expected * full["student"])
        torch.testing.assert_close(terms["teacher"], full["teacher"])


def test_gradient_reversal_of_ctkd() -> None:
    s, t, y = batch()
    method = CTKD(decay=10).double()
    method.prepare(SHAPES, SHAPES, 100, 20)
    raw = method.t.detach().clone().requires_grad_()
    plain = 0.9 * kd_loss(s, t, 1 + 20 * raw.sigmoid())
    (upwards,) = torch.autograd.grad(plain, raw)
    for epoch in range(20):
        (gradient,) = torch.autograd.grad(method(s, t, y, epoch / 20)["kl"], method.t)
        strength = (1 - math.cos(math.pi * min((epoch + 1) / 10, 1))) / 2
        assert gradient.item() == pytest.approx(-strength * upwards.item(), rel=1e-9)
    assert abs(upwards.item()) > 1e-3


def test_the_temperature_of_ctkd_climbs_while_the_student_descends() -> None:
    s, t, y = batch()
    method = CTKD().double()
    method.epochs = 240
    s.requires_grad_()
    optimizer = torch.optim.SGD([s, *method.parameters()], lr=0.05)
    before = method(s, t, y, progress=1)["kl"]
    T = method.temperature().item()
    torch.autograd.backward(before)
    optimizer.step()
    moved = method.temperature().item()
    assert abs(moved - T) > 1e-4
    with torch.no_grad():
        old, new = (kd_loss(s, t, at) for at in (T, moved))
    assert new > old  # its step made the task harder
    assert 0.9 * old < before  # the student's made it easier
    assert list(method.state_dict()) == ["t"]
    other = CTKD()
    other.load_state_dict(method.state_dict())
    assert other.temperature().item() == pytest.approx(moved)


def test_ctkd_stays_between_its_ends() -> None:
    method = CTKD(start=2, span=3)
    for t, expected in ((-1e4, 2.0), (0.0, 3.5), (1e4, 5.0)):
        method.t.data.fill_(t)
        assert method.temperature().item() == pytest.approx(expected)


def test_gradient_of_wsld_leaves_its_weights_alone() -> None:
    s, t, y = batch()
    s.requires_grad_()
    found = torch.autograd.grad(create_method("wsld")(s, t, y)["soft"], s)[0]
    hard = [F.cross_entropy(x.detach(), y, reduction="none") for x in (s, t)]
    weights = 1 - torch.exp(-hard[0] / (hard[1] + 1e-7))
    soft = F.cross_entropy(s / 2, (t / 2).softmax(1), reduction="none")
    expected = torch.autograd.grad(2.5 * 4 * (weights * soft).mean(), s)[0]
    torch.testing.assert_close(found, expected)


# As published


def test_as_published_lets_the_gradient_of_sld_through_its_second_teacher() -> None:
    s, t, y = batch()
    s.requires_grad_()
    constant = swap(s.detach(), y)
    expected = torch.autograd.grad(0.9 * kd_total(s, constant, (1, 2, 3, 4, 5, 6)), s)[0]
    mine, published = SLD()(s, t, y, progress=1)["student"], SLD(as_published=True)(s, t, y, progress=1)["student"]
    torch.testing.assert_close(mine, published)
    gradient = torch.autograd.grad(mine, s)[0]
    torch.testing.assert_close(gradient, expected)
    assert (torch.autograd.grad(published, s)[0] - gradient).abs().max() > 1e-3


def test_as_published_masks_of_mlkd_only_scale() -> None:
    s, t, y = batch(6)
    mine, published = MLKD()(s, t, y), MLKD(as_published=True)(s, t, y)
    confidence, sums = t.softmax(1).amax(1), t.softmax(1).sum(0)
    images = (confidence <= confidence.median()).double().mean()  # torch's median is the lower of the two
    classes = (sums <= sums.median()).double().mean()
    assert (images.item(), classes.item()) == (0.5, 0.5)
    for name, share in (("instance", images), ("batch", images), ("class", classes)):
        torch.testing.assert_close(published[name], share * mine[name])


def test_as_published_mlkd_hardly_looks_at_the_second_view() -> None:
    s, t, y = batch(6)
    s2, t2, _ = batch(6, seed=1)
    student, teacher = Outputs(s, other=Outputs(s2)), Outputs(t, other=Outputs(t2))
    first, second = MLKD()(s, t, y), MLKD()(s2, t2, y)
    mine, published = MLKD()(student, teacher, y), MLKD(as_published=True)(student, teacher, y)
    for name in ("instance", "batch", "class"):
        torch.testing.assert_close(mine[name], first[name] + second[name])
    for name in ("batch", "class"):  # without the second view's
        torch.testing.assert_close(published[name], 0.5 * first[name])
    strong = kd_total(s2, t2, (4, 3, 5)) + kd_total(s, t, (2, 6))
    torch.testing.assert_close(published["instance"], 0.5 * first["instance"] + 0.9 * strong)
    for terms in (mine, published):
        torch.testing.assert_close(terms["ce_strong"], 0.1 * F.cross_entropy(s2, y))


def test_mlkd_standardises_its_images_alone() -> None:
    s, t, y = batch()
    plain, standardised = MLKD()(s, t, y), MLKD(standardize=True)(s, t, y)
    assert abs(plain["instance"] - standardised["instance"]) > 1e-3
    for name in ("batch", "class"):
        torch.testing.assert_close(standardised[name], plain[name])


# Traits, combinations, presets


def test_traits() -> None:
    for name in ("mse", "kd", "ctkd", "mlkd", "sld", "skd", "normkd", "eakd", "sdd"):
        assert method_class(name).ce_weight == 0.1
    for name in ("dkd", "nkd", "dist", "ckd", "wsld", "ttm", "wttm", "mcld", "rld", "crld", "ldrld", "wkd", "ofa"):
        assert method_class(name).ce_weight == 1.0
    assert {name for name in list_methods() if method_class(name).views == 2} == {"mlkd", "sld", "crld"}
    assert method_class("pld").ce_weight == 0.0  # cross-entropy is its first choice


@pytest.mark.parametrize("name", list_methods())
def test_every_method_says_where_it_comes_from(name: str) -> None:
    cls = method_class(name)
    if name == "plain":
        assert (cls.family, cls.year, cls.paper) == ("", 0, "")
    else:
        assert cls.family in ("logits", "features", "relations")
        assert 2013 < cls.year < 2027
        assert cls.paper


def test_a_combination_prepares_its_members_and_takes_two_views() -> None:
    s, t, y = batch()
    s2, t2, _ = batch(seed=1)
    dkd, mlkd = DKD(), MLKD()
    method = combine({"dkd": dkd, "mlkd": mlkd}, {"mlkd": 0.5})
    method.prepare(SHAPES, SHAPES, 100, 30)
    assert dkd.epochs == 30
    assert method.views == 2
    assert method.requires_global_batch
    student, teacher = Outputs(s, other=Outputs(s2)), Outputs(t, other=Outputs(t2))
    terms = method(student, teacher, y, 0.1)
    expected = {f"dkd.{name}": value for name, value in dkd(s, t, y, 0.1).items()}
    expected |= {f"mlkd.{name}": 0.5 * value for name, value in mlkd(student, teacher, y).items()}
    torch.testing.assert_close(terms, expected)
    assert "t" in "".join(dict(combine({"ctkd": CTKD()}).named_parameters()))


def test_all_methods_on_logits_compose() -> None:
    s, t, y = batch()
    names = [name for name in list_methods() if method_class(name).needs == {"logits"}]
    assert len(names) >= 13
    terms = of_240_epochs(create_method(names)).double()(s, t, y, progress=1)
    assert {name.split(".")[0] for name in terms} == set(names)
    assert all(value.isfinite() for value in terms.values())


PRESETS = [(name, preset) for name in list_methods() for preset in method_class(name).presets]


def test_presets_of_the_field() -> None:
    assert method_class("dkd").presets["resnet32x4-resnet8x4"] == {"beta": 8.0}
    assert method_class("kd").presets["resnet110-resnet20-lskd"] == {
        "standardize": True,
        "temperature": 4,
        "weight": 12,
    }
    assert method_class("ckd").presets["vgg13-MobileNetV2"] == {"weight": 50.0, "temperature": 2.0}
    readings = {"default", "mask_off", "teacher_anchor", "both", "prototypes", "soft", "uncentered", "bank4096", "ckd"}
    assert readings <= set(MCLD.presets)


@pytest.mark.parametrize(("name", "preset"), PRESETS, ids=[f"{name} {preset}" for name, preset in PRESETS])
def test_presets_make_a_method(name: str, preset: str) -> None:
    cls = method_class(name)
    method = cls(**cls.presets[preset])
    assert set(cls.presets[preset]) <= set(inspect.signature(type(method)).parameters)
    assert set(cls.preset_ce_weights) <= set(cls.presets)
    assert all(0 <= weight < 10 for weight in cls.preset_ce_weights.values())


@pytest.mark.parametrize(
    ("name", "preset"),
    [("kd", "imagenet"), ("kd", "vgg13-vgg8-lskd"), ("mlkd", "lskd"), ("mcld", "ckd")],
)
def test_presets_are_words_for_the_command_line(name: str, preset: str) -> None:
    options = method_class(name).presets[preset]
    words = preset_words(options, "method.")
    settings = compose("distill", ["data=digits", "teacher=t", "student=resnet8", f"method={name}", *words])
    assert isinstance(settings, Distill)
    for key, value in options.items():
        found = getattr(settings.method, key)
        if isinstance(value, dict):
            assert {inner: getattr(found, inner) for inner in value} == value
        else:
            assert found == value


def test_dist_as_published_damps_classes_that_are_unlikely_everywhere() -> None:
    """The released code's 1e-8: a column whose norms have a product of about that counts half, smaller ones nothing."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 6, generator=g, dtype=torch.float64)
    logits[:, 3] -= 9
    logits[:, 4] -= 25
    plain, published = (
        create_method("dist", temperature=1, beta=0, gamma=1, as_published=flag)(
            logits, logits.clone(), torch.arange(16) % 6
        )["intra"].item()
        for flag in (False, True)
    )
    assert plain == pytest.approx(0, abs=1e-12)
    norm = logits.softmax(1)[:, 3].sub(logits.softmax(1)[:, 3].mean()).norm().item()
    expected = (1 + 1 - norm**2 / (norm**2 + 1e-8)) / 6  # one class counts nothing, one less
    assert published == pytest.approx(expected, rel=1e-3)
