"""The feature and relation methods against loops."""

from collections.abc import Callable

import pytest
import torch
from tests.methods.feature_outputs import (
    CAT_STUDENT,
    CAT_TEACHER,
    INDEX,
    LABELS,
    STUDENT,
    TEACHER,
    N,
    S,
    T,
    cast,
    change,
    outputs,
    pooled,
    ready,
)
from tests.reference import feature_methods as loops
from torch import Tensor

from mcld import InputError, create_method
from mcld.methods import Method
from mcld.methods.crd import CRD, draw_negatives
from mcld.methods.fitnet import FitNet
from mcld.methods.ft import FT
from mcld.methods.ofd import OFD, Connector
from mcld.methods.reviewkd import ReviewKD, hierarchical_distance
from mcld.methods.srd import SRD
from mcld.methods.vid import VID, Gaussian


def value(method: Method, term: str) -> float:
    return float(method(S, T, LABELS, 1.0, INDEX)[term].detach())


def by_stage(loop: Callable[[Tensor, Tensor], float]) -> float:
    return sum(loop(s, t) for s, t in zip(S.maps, T.maps[1:], strict=True))


def test_at_equals_the_loop() -> None:
    assert value(ready("at", weight=3), "attention") == pytest.approx(3 * by_stage(loops.at), rel=1e-10)


def test_nst_equals_the_loop() -> None:
    assert value(ready("nst", weight=3), "selectivity") == pytest.approx(3 * by_stage(loops.nst), rel=1e-10)


def test_sp_equals_the_loop() -> None:
    expected = 3 * loops.sp(S.maps[-1], T.maps[-1])
    assert value(ready("sp", weight=3), "similarity") == pytest.approx(expected, rel=1e-10)


def test_pkt_equals_the_loop() -> None:
    assert value(ready("pkt", weight=3), "neighbours") == pytest.approx(3 * loops.pkt(*pooled()), rel=1e-10)


def test_rkd_equals_the_loop() -> None:
    method = ready("rkd", distance=3, angle=2)
    distance, angle = loops.rkd(*pooled())
    assert value(method, "distance") == pytest.approx(3 * distance, rel=1e-10)
    assert value(method, "angle") == pytest.approx(2 * angle, rel=1e-10)


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (0.3, 1), (0.5, 5)])
def test_cc_equals_the_loop(gamma: float, order: int) -> None:
    expected = 3 * loops.cc(*pooled(), gamma=gamma, order=order)
    method = ready("cc", weight=3, gamma=gamma, order=order)
    assert value(method, "correlation") == pytest.approx(expected, rel=1e-10)


def test_fitnet_equals_the_loop() -> None:
    method = ready("fitnet", weight=3, stage=2).eval()
    assert isinstance(method, FitNet)
    assert method.regressor is not None
    pairs = [loops.common(s, t) for s, t in zip(method.regressor(S.maps[1]).tolist(), T.maps[2].tolist(), strict=True)]
    expected = 3 * loops.mean([loops.mse(loops.flat(s), loops.flat(t)) for s, t in pairs])
    assert value(method, "hint") == pytest.approx(expected, rel=1e-10)


def test_vid_equals_the_loop() -> None:
    method = ready("vid", weight=3)
    assert isinstance(method, VID)
    assert method.gaussians is not None
    expected = 0.0
    for gaussian, s, t in zip(method.gaussians, S.maps, T.maps[1:], strict=True):
        assert isinstance(gaussian, Gaussian)
        assert torch.nn.functional.softplus(gaussian.raw_variance)[0].item() == pytest.approx(5, abs=1e-4)
        torch.nn.init.uniform_(gaussian.raw_variance, -1, 1)
        variance = [float(torch.log1p(x.exp())) + 1e-5 for x in gaussian.raw_variance.detach()]
        size = (min(s.shape[2], t.shape[2]),) * 2
        mu = gaussian.mean(torch.nn.functional.adaptive_avg_pool2d(s, size))
        expected += loops.gaussian(mu, torch.nn.functional.adaptive_avg_pool2d(t, size), variance)
    assert value(method, "information") == pytest.approx(3 * expected, rel=1e-10)


def test_ft_equals_the_loop() -> None:
    method = ready("ft", weight=3).eval()
    assert isinstance(method, FT)
    assert method.paraphraser is not None
    assert method.back is not None
    assert method.translator is not None
    factor = method.paraphraser(T.maps[-1])
    assert factor.shape[1] == round(0.5 * 7)
    assert value(method, "factor") == pytest.approx(3 * loops.factor(method.translator(S.maps[-1]), factor), rel=1e-10)
    again = loops.mse(loops.numbers(method.back(factor)), loops.numbers(T.maps[-1]))
    assert value(method, "paraphrase") == pytest.approx(again, rel=1e-10)
    # the student's term moves the translator only
    factor_loss = method(S, T, LABELS)["factor"]
    assert all(
        g is None for g in torch.autograd.grad(factor_loss, list(method.paraphraser.parameters()), allow_unused=True)
    )


def test_ofd_equals_the_loop() -> None:
    method = ready("ofd", weight=3)
    assert isinstance(method, OFD)
    assert method.connectors is not None
    method(S, T, LABELS)  # the first batch sets the margins
    method.eval()
    expected = 0.0
    for i, (connector, s, t) in enumerate(zip(method.connectors, S.maps, T.maps[1:], strict=True)):
        assert isinstance(connector, Connector)
        size = (min(s.shape[2], t.shape[2]),) * 2
        s, t = (torch.nn.functional.adaptive_avg_pool2d(x, size) for x in (s, t))
        margin = [loops.mean([x for x in loops.numbers(t[:, c]) if x < 0]) for c in range(t.shape[1])]
        torch.testing.assert_close(connector.margin, torch.tensor(margin, dtype=torch.float64))
        expected += loops.ofd(connector.project(s), t, margin) / 2 ** (2 - i)
    assert value(method, "overhaul") == pytest.approx(3 * expected, rel=1e-10)


def test_ofd_has_no_margin_after_a_relu() -> None:
    method = ready("ofd")
    assert isinstance(method, OFD)
    assert method.connectors is not None
    method(S, change(T, torch.relu), LABELS)
    assert all(not connector.margin.abs().sum() for connector in method.connectors if isinstance(connector, Connector))


def test_crd_equals_the_loop() -> None:
    method = ready("crd", weight=3).eval()
    assert isinstance(method, CRD)
    assert method.student_map is not None
    assert method.teacher_map is not None
    generator = torch.Generator().manual_seed(method.seed)
    rows = torch.cat([INDEX.unsqueeze(1), draw_negatives(INDEX, N, 8, generator)], dim=1)
    s, t = (
        torch.nn.functional.normalize(m(x), dim=1)
        for m, x in zip((method.student_map, method.teacher_map), pooled(), strict=True)
    )
    expected = 3 * loops.crd(s, method.banks["teacher"].double(), rows, 0.07)
    assert value(method, "student") == pytest.approx(expected, rel=1e-6)
    expected = 3 * loops.crd(t, method.banks["student"].double(), rows, 0.07)
    assert value(method, "teacher") == pytest.approx(expected, rel=1e-6)


def test_reviewkd_equals_the_loop() -> None:
    g = torch.Generator().manual_seed(0)
    for side in (1, 2, 4, 8):
        s, t = torch.randn(2, 2, 3, side, side, generator=g, dtype=torch.float64)
        assert hierarchical_distance(s, t).item() == pytest.approx(loops.hierarchical(s, t), rel=1e-10)
    method = ready("reviewkd", weight=3).eval()
    assert isinstance(method, ReviewKD)
    assert method.fusions is not None
    stages = [(s, t) for s, t in zip(S.maps, T.maps[1:], strict=True)] + [
        (p[0], p[1]) for p in [tuple(x[:, :, None, None] for x in pooled())]
    ]
    expected, gathered = 0.0, None
    for fusion, (s, t) in zip(reversed(method.fusions), reversed(stages), strict=True):
        x = fusion.reduce(s)  # type: ignore[operator]
        if gathered is not None:
            gathered = gathered.repeat_interleave(x.shape[2] // gathered.shape[2], 2).repeat_interleave(
                x.shape[3] // gathered.shape[3], 3
            )
            gates = fusion.attend(torch.cat([x, gathered], 1))  # type: ignore[operator]
            x = x * gates[:, 0:1] + gathered * gates[:, 1:2]
        x = x.repeat_interleave(t.shape[2] // x.shape[2], 2).repeat_interleave(t.shape[3] // x.shape[3], 3)
        gathered = x
        expected += loops.hierarchical(fusion.project(x), t)  # type: ignore[operator]
    assert value(method, "review") == pytest.approx(3 * expected, rel=1e-10)


def test_reviewkd_rises_over_its_first_epochs() -> None:
    method = ready("reviewkd", warmup=4).eval()  # of 10 epochs
    full = method(S, T, LABELS, 1.0)["review"].item()
    for progress, share in ((0.0, 0.0), (0.1, 0.25), (0.2, 0.5), (0.4, 1.0), (0.9, 1.0)):
        assert method(S, T, LABELS, progress)["review"].item() == pytest.approx(share * full)


@pytest.mark.parametrize("normalize", [True, False])
def test_catkd_equals_the_loop(normalize: bool) -> None:
    s, t = outputs(CAT_STUDENT, 1), outputs(CAT_TEACHER, 2)
    assert s.classifier is not None
    assert t.classifier is not None
    expected = 3 * loops.catkd(s.maps[-1], s.classifier[0], t.maps[-1], t.classifier[0], 2, normalize)
    method = ready("catkd", CAT_STUDENT, CAT_TEACHER, weight=3, normalize=normalize)
    assert method(s, t, LABELS)["attention"].item() == pytest.approx(expected, rel=1e-10)


def test_srd_equals_the_loop() -> None:
    method = ready("srd", weight=3, alpha=3)
    assert isinstance(method, SRD)
    assert method.projector is not None
    s, t = pooled()
    assert value(method, "distance") == pytest.approx(3 * loops.srd(method.projector(s), t, 3), rel=1e-10)


def test_simkd() -> None:
    wide = STUDENT._replace(pooled=7)
    with pytest.raises(InputError, match="reads 5 features and the teacher's 7; expected a student with the teacher's"):
        create_method("simkd").prepare(STUDENT, TEACHER, images=N, epochs=1)
    method, student = ready("simkd", wide, weight=3), outputs(wide, 1)
    assert student.pooled is not None
    expected = 3 * loops.mse(loops.numbers(student.pooled), loops.numbers(pooled()[1]))
    assert method(student, T, LABELS)["features"].item() == pytest.approx(expected, rel=1e-10)
    assert method(T, T, LABELS)["features"].item() == 0
    x = student.pooled.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: method(student._replace(pooled=x), T, LABELS)["features"], (x,))
    half, teacher = cast(student, torch.bfloat16), cast(T, torch.bfloat16)
    value = method(half, teacher, LABELS)["features"]
    assert value.dtype is torch.float32
    torch.testing.assert_close(
        value, method(cast(half, torch.float32), cast(teacher, torch.float32), LABELS)["features"]
    )
