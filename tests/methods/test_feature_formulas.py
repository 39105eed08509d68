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
    C,
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
from torch import Tensor, nn

from mcld import InputError, create_method
from mcld.methods import Method, Outputs, Shapes
from mcld.methods.cc import CC
from mcld.methods.crd import CRD, draw_negatives
from mcld.methods.fitnet import FitNet
from mcld.methods.ft import FT
from mcld.methods.ofd import OFD, Connector
from mcld.methods.reviewkd import Fusion, ReviewKD, hierarchical_distance
from mcld.methods.srd import SRD
from mcld.methods.vid import VID, Gaussian


def head(given: Outputs) -> Outputs:
    """The first image alone."""
    assert given.pooled is not None
    return given._replace(logits=given.logits[:1], pooled=given.pooled[:1], maps=tuple(m[:1] for m in given.maps))


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


def test_cc_as_published_equals_the_loop() -> None:
    method = ready("cc", weight=3, as_published=True)
    assert isinstance(method, CC)
    assert method.embeddings is not None
    s, t = (embed(x) for embed, x in zip(method.embeddings, pooled(), strict=True))
    assert s.shape == (len(LABELS), 128)
    assert value(method, "correlation") == pytest.approx(3 * loops.cc_neighbours(s, t), rel=1e-10)
    one = ready("cc", as_published=True)(head(S), head(T), LABELS[:1])
    assert one["correlation"].item() == 0  # it has no neighbour


def test_cc_is_no_longer_inert() -> None:
    """Its gradient is of the size of cross-entropy's, not 10⁻⁵ of it, on features such as networks have."""
    g = torch.Generator().manual_seed(0)
    features, classes = torch.rand(64, 64, generator=g).requires_grad_(), torch.randn(100, 64, generator=g) / 8
    labels = torch.arange(64)
    logits = features @ classes.T
    student, teacher = Outputs(logits, features), Outputs(logits.detach(), torch.rand(64, 64, generator=g) ** 4)
    for options in ({}, CC.presets["published"]):
        method = create_method("cc", **options)
        method.prepare(Shapes(100, 64), Shapes(100, 64), 64, 1)
        (ours,) = torch.autograd.grad(method(student, teacher, labels)["correlation"], features, retain_graph=True)
        (usual,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), features, retain_graph=True)
        assert 0.03 < (ours.norm() / usual.norm()).item() < 30


@pytest.mark.parametrize(
    ("side", "kind", "kernel"), [(4, torch.nn.Conv2d, 1), (8, torch.nn.Conv2d, 3), (2, torch.nn.ConvTranspose2d, 4)]
)
def test_the_regressor_of_fitnet_is_the_fields(side: int, kind: type, kernel: int) -> None:
    """Onto the teacher's grid, and a ReLU after batch normalisation, as in RepDistiller and mdistiller."""
    student, teacher = Shapes(C, 5, ((3, side, side),)), Shapes(C, 7, ((6, 4, 4),))
    method = ready("fitnet", student, teacher, weight=3, stage=1).eval()
    assert isinstance(method, FitNet)
    assert method.regressor is not None
    assert isinstance(method.regressor, nn.Sequential)
    convolution, norm, relu = list(method.regressor)
    assert type(convolution) is kind
    assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
    assert convolution.kernel_size == (kernel, kernel)
    assert isinstance(relu, torch.nn.ReLU)
    maps = torch.randn(6, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = torch.randn(6, 6, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    projected = norm(convolution(maps)).clamp(min=0)
    assert (projected == 0).any()
    expected = 3 * (projected - target).square().mean().item()
    given = [Outputs(torch.zeros(6, C), maps=(m,)) for m in (maps, target)]
    assert method(*given, LABELS)["hint"].item() == pytest.approx(expected, rel=1e-10)


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
    kinds = [[type(m) for m in part.children()] for part in (method.paraphraser, method.back, method.translator)]
    plain, back, normed = (nn.Conv2d, nn.LeakyReLU), (nn.ConvTranspose2d, nn.LeakyReLU), (nn.Conv2d, nn.BatchNorm2d)
    assert kinds == [[*plain] * 3, [*back] * 3, [*normed, nn.LeakyReLU] * 3]
    published = ready("ft", weight=3, as_published=True).eval()  # with the same weights
    theirs = [f.square().mean(dim=1, keepdim=True) for f in (method.translator(S.maps[-1]), factor)]
    assert value(published, "factor") == pytest.approx(3 * loops.factor(*theirs), rel=1e-10)
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


def test_projections_begin_as_the_authors_do() -> None:
    reviewkd = ready("reviewkd", Shapes(C, 600, ((64, 8, 8),)), Shapes(C, 300, ((80, 8, 8),)))
    assert isinstance(reviewkd, ReviewKD)
    assert reviewkd.fusions is not None
    for fusion, (inputs, channels) in zip(reviewkd.fusions, ((64, 80), (600, 300)), strict=True):
        assert isinstance(fusion, Fusion)
        sizes = (fusion.reduce[0], inputs, 512), (fusion.project[0], 512 * 9, channels)
        for convolution, fan_in, width in sizes:
            assert isinstance(convolution, nn.Conv2d)
            assert convolution.out_channels == width
            bound = (3 / fan_in) ** 0.5  # uniform, He et al. with a slope of 1
            assert convolution.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    ofd = ready("ofd", Shapes(C, 5, ((64, 4, 4),)), Shapes(C, 7, ((128, 4, 4),)))
    assert isinstance(ofd, OFD)
    assert ofd.connectors is not None
    (connector,) = ofd.connectors
    assert isinstance(connector, Connector)
    convolution = connector.project[0]
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.02)


def test_the_width_of_reviewkd_is_limited() -> None:
    method = ready("reviewkd", Shapes(C, 600, ((64, 8, 8),)), Shapes(C, 300, ((80, 8, 8),)), width=256)
    assert isinstance(method, ReviewKD)
    assert method.fusions is not None
    assert method.fusions[0].reduce[0].out_channels == 256  # type: ignore[index,union-attr]
    with pytest.raises(InputError, match="preactivation is 'student'; expected one of none, teacher, both"):
        create_method("reviewkd", preactivation="student")


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
