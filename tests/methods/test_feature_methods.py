"""The feature and relation methods: gradients, types, orders, extremes, shapes, state."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.methods.feature_outputs import (
    CAT_STUDENT,
    CAT_TEACHER,
    INDEX,
    LABELS,
    NAMES,
    OPTIONS,
    STUDENT,
    TEACHER,
    B,
    N,
    S,
    T,
    cast,
    change,
    leaves,
    outputs,
    pooled,
    ready,
    total,
)
from torch import Tensor

from mcld import InputError, create_method
from mcld.features import Features
from mcld.methods import FeatureMethod, Outputs, Shapes, Terms, combine, method_class
from mcld.methods.crd import CRD, OtherClasses, draw_negatives
from mcld.methods.ft import FT
from mcld.methods.reviewkd import hierarchical_distance
from mcld.models import ModelSpec
from mcld.testing import check_feature_method


@pytest.mark.parametrize("name", [*NAMES, "simkd"])
def test_the_battery_for_methods_on_features(name: str) -> None:
    method = create_method(name, **OPTIONS.get(name, {}))
    # crd: which negatives an image gets depends on its row, see the test below; compiled: further below
    check_feature_method(method, draws=name == "crd", compiled=False)


class Wrong(FeatureMethod):
    """Pulls features together, and can do one thing wrong."""

    needs = frozenset({"logits", "pooled"})
    requires_global_batch = False
    fault: str = ""

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        assert student.pooled is not None
        s = student.pooled
        if self.fault == "mean":
            s = s - s.mean(dim=0)
        if self.fault == "first":
            s = s[:1]
        if self.fault == "detached":
            s = s * s.detach()
        if self.fault == "none":
            s = s.detach()
        return {"size": s.square().mean()}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("", ""),
        ("mean", "depends on the others of the batch"),
        ("first", "the order of the images"),
        ("detached", "its gradient is not that of its value"),
        ("none", "does not require grad|no gradient reaches the student"),
    ],
)
def test_the_battery_finds_what_is_wrong(fault: str, said: str) -> None:
    if not said:
        check_feature_method(Wrong(fault))
        return
    with pytest.raises((AssertionError, RuntimeError), match=said):
        check_feature_method(Wrong(fault), compiled=False)


def test_the_order_of_the_images_does_not_matter_to_crd_with_all_others_as_negatives() -> None:
    order = torch.randperm(B, generator=torch.Generator().manual_seed(3))
    g = torch.Generator().manual_seed(0)
    rows = draw_negatives(INDEX, N, 5000, g)
    counts = torch.stack([torch.bincount(row, minlength=N) for row in rows])
    assert torch.equal(counts.gather(1, INDEX.unsqueeze(1)), torch.zeros(B, 1, dtype=torch.int64))
    expected = 5000 / (N - 1)
    others = counts[counts > 0].double()
    assert len(others) == B * (N - 1)
    assert bool(((others - expected).abs() < 6 * expected**0.5).all())  # uniform
    first = ready("crd", negatives=4000)(S, T, LABELS, 1.0, INDEX)
    second = ready("crd", negatives=4000)(
        change(S, lambda x: x[order]), change(T, lambda x: x[order]), LABELS[order], 1.0, INDEX[order]
    )
    for term, x in first.items():
        assert second[term].item() == pytest.approx(x.item(), rel=0.05)


def test_crd_draws_from_other_classes_uniformly() -> None:
    labels = torch.arange(N) % 4 // 2 + torch.arange(N) // 15  # three classes of unlike sizes, mixed
    sizes = labels.bincount()
    assert len(set(sizes.tolist())) > 1
    everyone = torch.arange(N)
    rows = OtherClasses(labels).draw(everyone, 5000, torch.Generator().manual_seed(0))
    counts = torch.stack([torch.bincount(row, minlength=N) for row in rows])
    for i in range(N):
        expected = 5000 / int((labels != labels[i]).sum())
        assert counts[i][labels == labels[i]].sum() == 0
        assert bool(((counts[i][labels != labels[i]] - expected).abs() < 6 * expected**0.5).all())


def test_crd_takes_its_negatives_from_other_classes_when_the_labels_are_known() -> None:
    labels = torch.arange(N) % 2
    torch.manual_seed(0)
    method = create_method("crd", negatives=8, dim=4)
    method.prepare(STUDENT, TEACHER, images=N, epochs=1, labels=labels)
    assert isinstance(method, CRD)
    method = method.double().eval()
    before = method(S, T, LABELS, 1.0, INDEX)
    own = labels[INDEX[0]]
    rows = [i for i in range(N) if labels[i] == own and i not in INDEX]
    for i in rows:  # nobody of the other class is compared with itself, so this one's class mates are not read
        method.banks["teacher"][i] = -method.banks["teacher"][i]
    only = torch.nonzero(labels[INDEX] == own).flatten()
    s, t = (change(x, lambda y: y[only]) for x in (S, T))
    changed = method(s, t, LABELS[only], 1.0, INDEX[only])
    for i in rows:
        method.banks["teacher"][i] = -method.banks["teacher"][i]
    torch.testing.assert_close(method(s, t, LABELS[only], 1.0, INDEX[only]), changed, rtol=0, atol=0)
    assert before["student"] != changed["student"]
    with pytest.raises(InputError, match="all 5 training images are of one class; crd compares"):
        method.prepare(STUDENT, TEACHER, 5, 1, torch.ones(5, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_and_autocast(name: str, dtype: torch.dtype) -> None:
    method = ready(name).float().eval()
    s, t = cast(S, dtype), cast(T, dtype)
    expected = method(cast(s, torch.float32), cast(t, torch.float32), LABELS, 1.0, INDEX)
    for term, x in method(s, t, LABELS, 1.0, INDEX).items():
        assert x.dtype is torch.float32
        torch.testing.assert_close(x, expected[term])
    if dtype is torch.bfloat16:
        with torch.autocast("cpu", dtype=dtype):
            for term, x in method(s, t, LABELS, 1.0, INDEX).items():
                assert x.dtype is torch.float32
                # projections run in half precision, what compares does not
                rtol = 0.1 if any(True for _ in method.parameters()) else 1e-5
                torch.testing.assert_close(x, expected[term], rtol=rtol, atol=0.05 if rtol == 0.1 else 1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_constant_features_give_finite_gradients(name: str, fill: float) -> None:
    method = ready(name).float()
    s, t = cast(S, torch.float32), cast(T, torch.float32)
    for teacher in (t, change(t, lambda x: torch.full_like(x, fill))):
        inputs = tuple(torch.full_like(x, fill).requires_grad_() for x in leaves(s))
        loss = total(method, Outputs(s.logits, inputs[0], inputs[1:], s.classifier), teacher)
        assert loss.isfinite()
        torch.autograd.backward(loss)
        for x in (*inputs, *method.parameters()):
            assert x.grad is None or x.grad.isfinite().all()


SCALES = [(torch.float32, 1e-6), (torch.float32, 1e4), (torch.bfloat16, 1e4), (torch.float16, 1e3)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "scale"), SCALES)
def test_small_and_large_features(name: str, dtype: torch.dtype, scale: float) -> None:
    method = ready(name).float()
    s, t = (change(cast(x, torch.float32), lambda y: y * scale) for x in (S, T))
    inputs = tuple(x.to(dtype).requires_grad_() for x in leaves(s))
    student = Outputs(s.logits, inputs[0], inputs[1:], s.classifier)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        loss = total(method, student, cast(t, dtype))
    assert loss.isfinite()
    torch.autograd.backward(loss)
    assert all(x.grad is None or bool(x.grad.isfinite().all()) for x in (*inputs, *method.parameters()))


@pytest.mark.parametrize("name", ["at", "sp", "pkt", "rkd", "cc", "nst", "catkd"])
def test_zero_at_equal_features(name: str) -> None:
    shapes = CAT_STUDENT if name == "catkd" else STUDENT
    same = outputs(shapes, 1)
    for x in ready(name, shapes, shapes)(same, same, LABELS, 1.0, INDEX).values():
        assert x.item() == pytest.approx(0.0, abs=1e-12)


def as_identity(module: torch.nn.Module) -> None:
    """Make 1×1 convolutions and linear layers hand through what they get, and batch normalisation nearly."""
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            part.weight.data.copy_(torch.eye(len(part.weight)).view_as(part.weight))
            if part.bias is not None:
                part.bias.data.zero_()


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("fitnet", 0.0, 1e-6),  # batch normalisation adds 1e-5 to the variance
        ("ofd", 0.0, 1e-8),
        ("vid", 3 * math.log(5) / 2, 1e-6),  # of three stages: the logarithm of the first deviation
        ("srd", math.log(1e-12), 1e-9),
    ],
)
def test_value_at_equal_features_when_the_projection_is_the_identity(
    name: str, expected: float, tolerance: float
) -> None:
    positive = change(outputs(STUDENT, 1), torch.abs)  # VID has a ReLU between its layers
    method = ready(name, STUDENT, STUDENT, **({"weight": 1} if name != "srd" else {})).eval()
    as_identity(method)
    assert total(method, positive, positive).item() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("as_published", [False, True])
def test_factors_of_equal_features_are_equal_for_equal_translators(as_published: bool) -> None:
    same = outputs(STUDENT, 1)
    method = ready("ft", STUDENT, STUDENT, rate=1, as_published=as_published).eval()
    assert isinstance(method, FT)
    assert method.paraphraser is not None
    method.translator = method.paraphraser  # which has no batch normalisation
    assert method(same, same, LABELS)["factor"].item() == pytest.approx(0.0, abs=1e-12)


def test_reviewkd_compares_without_distance_what_is_equal() -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert hierarchical_distance(x, x).item() == 0


def test_crd_where_all_vectors_are_equal() -> None:
    # Every score is 1/τ, so each of the 1 + K is the own one with probability 1/(1 + K).
    method = ready("crd", STUDENT, STUDENT, weight=1, negatives=8)
    assert isinstance(method, CRD)
    same = change(outputs(STUDENT, 1), torch.ones_like)
    assert method.student_map is not None
    assert method.teacher_map is not None
    method.teacher_map.load_state_dict(method.student_map.state_dict())
    vector = torch.nn.functional.normalize(method.student_map(same.pooled)[0], dim=0).detach().float()
    method.banks = {role: vector.expand(N, -1).clone() for role in method.banks}
    expected = math.log(9) + 8 * math.log(9 / 8)
    for x in method(same, same, LABELS, 1.0, INDEX).values():
        assert x.item() == pytest.approx(expected, rel=1e-6)


def check_compiled(name: str, backend: str, fullgraph: bool) -> None:
    """Two steps, with what the method learns and keeps, against a twin that is not compiled."""
    torch._dynamo.reset()
    student, teacher = CAT_STUDENT, CAT_TEACHER
    if name in ("simkd", "fitnet"):
        student, teacher = STUDENT._replace(pooled=TEACHER.pooled), TEACHER
    method, twin = ready(name, student, teacher), ready(name, student, teacher)
    compiled = torch.compile(method, backend=backend, fullgraph=fullgraph)
    for step in range(2):
        s, t, progress = outputs(student, step), outputs(teacher, 10 + step), step / 2
        found, gradients = [], []
        for module, parameters in ((compiled, list(method.parameters())), (twin, list(twin.parameters()))):
            inputs = [x.clone().requires_grad_() for x in leaves(s)]
            terms = module(Outputs(s.logits, inputs[0], tuple(inputs[1:]), s.classifier), t, LABELS, progress, INDEX)
            loss = torch.stack(list(terms.values())).sum()
            gradients.append(torch.autograd.grad(loss, [*inputs, *parameters], allow_unused=True))
            found.append(terms)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients[-1][len(inputs) :], strict=True):
                    parameter.add_(gradient, alpha=-0.01)
        torch.testing.assert_close(found[0], found[1])
        torch.testing.assert_close(gradients[0], gradients[1])
        torch.testing.assert_close(method.state_dict(), twin.state_dict())


@pytest.mark.parametrize("name", [*NAMES, "simkd"])
def test_compiled(name: str) -> None:
    check_compiled(name, "aot_eager", fullgraph=name != "crd")  # whose banks are not in the graph


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "simkd"])
def test_compiled_by_the_default_backend(name: str) -> None:
    check_compiled(name, "inductor", fullgraph=False)


@pytest.mark.parametrize("name", NAMES)
def test_logits_alone_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} got the student's logits alone; expected Outputs with .*logits"):
        ready(name)(S.logits, T.logits, LABELS)


# ofa compares the stages of the student with the teacher's logits, not with its stages
@pytest.mark.parametrize("name", [name for name in NAMES if "maps" in method_class(name).needs and name != "ofa"])
def test_stages_that_do_not_match_are_refused_with_both_shapes(name: str) -> None:
    method = create_method(name)
    wide = STUDENT._replace(maps=((2, 8, 8), (3, 4, 4), (5, 2, 4)))
    if name != "sp":
        with pytest.raises(InputError, match=r"\(5, 2, 4\).*\(7, 2, 2\)"):
            method.prepare(wide, TEACHER, images=N, epochs=1)
    with pytest.raises(InputError, match=r"\(\).*\(7, 2, 2\)"):
        method.prepare(STUDENT._replace(maps=()), TEACHER, images=N, epochs=1)


def prepare(name: str, student: Shapes, teacher: Shapes, images: int = N, **options: Any) -> Callable[[], object]:
    return lambda: create_method(name, **options).prepare(student, teacher, images, 1)


def call(name: str, student: Outputs, teacher: Outputs) -> Callable[[], object]:
    return lambda: ready(name)(student, teacher, LABELS)


NAN = S._replace(pooled=torch.full((B, 5), float("nan")))
REFUSED: list[tuple[Callable[[], object], str]] = [
    (
        prepare("fitnet", STUDENT, TEACHER, stage=4),
        r"stage is 4; expected 1 to 3: student maps are \(\(2, 8.* teacher maps \(\(4, 8",
    ),
    (lambda: create_method("fitnet")(S, T, LABELS), r"call prepare\(...\) before"),
    (
        prepare("catkd", CAT_STUDENT._replace(pooled=9), CAT_TEACHER),
        r"\(5, 4, 4\).*\(7, 8, 8\).*expects \(9, h, w\) of the student",
    ),
    (call("crd", S, T), "expected index"),
    (lambda: create_method("crd", momentum=1), "momentum is 1; expected at least 0 and below 1"),
    (lambda: create_method("crd", negatives=2.5), "negatives is 2.5; expected an integer"),
    (prepare("crd", STUDENT, TEACHER, images=1), "there are 1 training images; crd expects at least 2"),
    (lambda: create_method("ft", rate=2), "rate is 2; expected a share of the teacher's channels"),
    (lambda: create_method("srd", alpha=1), "alpha is 1; expected more than 1, up to 100"),
    (lambda: create_method("catkd", side=1), "side is 1; expected an integer of at least 2"),
    (lambda: create_method("cc", order=1.5), "order is 1.5"),
    (
        call("sp", S._replace(maps=(S.maps[0][:2],)), T),
        r"student maps are \(2, 2, 8, 8\); sp expects \(6, c, h, w\)",
    ),
    (call("pkt", S, T._replace(pooled=None)), r"teacher pooled features are absent; pkt expects \(6, D\)"),
    (call("pkt", NAN, T), "student pooled features hold NaN or Inf"),
]


@pytest.mark.parametrize(("bad", "message"), REFUSED, ids=[message[:20] for _, message in REFUSED])
def test_other_refusals(bad: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        bad()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_checked(name: str) -> None:
    import inspect

    for option in inspect.signature(method_class(name)).parameters:
        with pytest.raises(InputError, match=f"{option} is -1"):
            create_method(name, **{option: -1})


def test_a_combination_prepares_its_members() -> None:
    torch.manual_seed(0)
    method = combine({"fitnet": create_method("fitnet"), "kd": create_method("kd")})
    method.prepare(STUDENT, TEACHER, images=N, epochs=1)
    terms = method.double()(S, T, LABELS)
    assert list(terms) == ["fitnet.hint", "kd.kl"]


def test_crd_banks_learn_with_momentum_in_training_only() -> None:
    method = ready("crd", momentum=0.25)
    assert isinstance(method, CRD)
    assert method.student_map is not None
    before = method.banks["student"].clone()
    method.eval()
    total(method, S, T)
    assert torch.equal(method.banks["student"], before)
    assert (method.steps, method.log_constants) == (0, {})
    method.train()
    total(method, S, T)
    method.get_extra_state()
    rest = torch.ones(N, dtype=torch.bool)
    rest[INDEX] = False
    assert torch.equal(method.banks["student"][rest], before[rest])
    s = torch.nn.functional.normalize(method.student_map(pooled()[0]), dim=1).float()
    expected = torch.nn.functional.normalize(0.25 * before[INDEX] + 0.75 * s, dim=1)
    torch.testing.assert_close(method.banks["student"][INDEX], expected)
    assert method.steps == 1


def test_defaults_are_the_fields() -> None:
    published = {
        "fitnet": 100,
        "at": 1000,
        "sp": 3000,
        "vid": 1,
        "pkt": 30000,
        "ft": 200,
        "nst": 50,
        "crd": 0.8,
        "ofd": 0.001,
        "simkd": 1,
    }
    for name, weight in published.items():
        assert create_method(name).weight == weight
    crd = create_method("crd")
    assert isinstance(crd, CRD)
    assert (crd.negatives, crd.temperature, crd.momentum, crd.dim) == (16384, 0.07, 0.5, 128)


def test_catkd_refuses_maps_that_its_classifier_does_not_read() -> None:
    """A wide ResNet has stages that end before a normalisation: only their shape fits."""
    network = ModelSpec("wrn_16_1", 3, 3, mean=[0.5] * 3, std=[0.5] * 3, image_size=[32, 32]).build().eval()
    images, method = torch.rand(B, 3, 32, 32), create_method("catkd")
    right = Features(network, method.needs, maps=["relu"])(images)
    assert method(right, right, LABELS)["attention"].item() == pytest.approx(0, abs=1e-9)
    wrong = Features(network, method.needs)(images)
    with pytest.raises(InputError, match="student's classifier does not read the average of its last maps"):
        create_method("catkd")(wrong, right, LABELS)
