"""What the code of the peers gives for the same numbers: constants, computed with it (docs/peers.md: the sources)."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mcld import create_method
from mcld.methods import Outputs, Shapes
from mcld.methods.cc import CC, neighbours
from mcld.methods.crd import CRD
from mcld.methods.ofa import enhanced_loss
from mcld.methods.ofd import partial_square
from mcld.methods.reviewkd import hierarchical_distance
from mcld.methods.srd import SRD
from mcld.rows import unit_rows

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
LSKD = {"temperature": 2.0, "standardize": True}


def wave(*shape: int, phase: float) -> Tensor:
    """Numbers without a pattern that matters, the same everywhere."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (3 * torch.sin(1.7 * i + phase) + torch.cos(0.31 * i * phase)).reshape(shape)


STUDENT, TEACHER, STUDENT_2, TEACHER_2 = (wave(6, 5, phase=phase) for phase in (1.0, 2.0, 3.0, 4.0))
POOLED = wave(6, 8, phase=5.0), wave(6, 8, phase=6.0)
CE = torch.nn.functional.cross_entropy(STUDENT, LABELS).item()
MAPS = wave(6, 4, 4, 4, phase=7.0), wave(6, 4, 4, 4, phase=8.0)


@pytest.mark.parametrize(
    ("name", "options", "progress", "value"),
    [
        ("kd", {"temperature": 4.0, "weight": 0.9}, 1.0, 1.80577340548),
        ("kd", {"weight": 9.0, **LSKD}, 1.0, 3.23697356811),
        ("dkd", {"temperature": 4.0, "beta": 8.0}, 2.5 / 240, 2.30582445118),  # the third epoch
        ("dkd", {"alpha": 15.0, "beta": 30.0, "warmup": 0.0, **LSKD}, 1.0, 11.4588730013),
        ("dist", {"temperature": 4.0, "as_published": True}, 1.0, 32.2790553191),
        ("ttm", {"temperature": 10.0, "weight": 45.0}, 1.0, 55.3247788982),
        ("wttm", {"temperature": 5.0, "weight": 4.0}, 1.0, 11.9117863155),
        ("nkd", {"temperature": 1.0, "gamma": 1.5}, 1.0, 2.9507582978),
        ("wsld", {"temperature": 2.0, "weight": 2.5}, 1.0, 11.0061371129),
        ("ckd", {"temperature": 2.0, "weight": 50.0}, 1.0, 79.683990447),
        ("mlkd", {"as_published": True}, 1.0, 13.9473333526),
        ("mlkd", {"as_published": True, "weight": 9.0, **LSKD}, 1.0, 27.3285757695),
        ("sld", {"as_published": True}, 149.5 / 240, 34.5048175898),  # epoch 150
        ("sld", {"as_published": True}, 150.0 / 240, 59.091515571),
    ],
)
def test_logits(name: str, options: dict[str, Any], progress: float, value: float) -> None:
    method = create_method(name, **options)
    method.prepare(Shapes(5), Shapes(5), 6, 240)
    student, teacher = Outputs(STUDENT, other=Outputs(STUDENT_2)), Outputs(TEACHER, other=Outputs(TEACHER_2))
    terms = method(student, teacher, LABELS, progress)
    assert torch.stack(list(terms.values())).sum().item() == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "options", "value", "rel"),
    [
        ("skd", {"as_published": True}, 1.09098623852, 1e-8),  # theirs adds 0.1 in float32
        ("rld", {}, 12.2871732577, 1e-10),
        ("rld", {"standardize": True}, 2.27281007987, 1e-10),
        ("crld", {}, 12.1303324446 - CE, 1e-10),
        ("ldrld", {"depth": 4}, 13.4689713954 - CE, 1e-10),
        ("pld", {"temperature": 4.0}, 1.55123577784, 1e-10),  # the paper's appendix C
        ("wkd", {"decay_start": 1.0}, 11.5044581264, 1e-6),  # theirs adds 1e-8 to what it divides by
        ("sdd", {}, 6.29138680003, 1e-10),
        ("sdd", {"of": "dkd"}, 59.9806892348, 1e-10),
        ("normkd", {}, 1.9659868693, 1e-10),
        ("normkd", {"of": "dkd", "options": {"alpha": 4.0, "beta": 5.0}}, 12.3198924266, 1e-10),
        ("eakd", {}, 2.32096053205, 1e-8),  # theirs adds 1e-10 to probabilities
        ("eakd", {"as_published": True}, 1.58436822541, 1e-8),
        ("eakd", {"of": "dkd"}, 19.7184962393, 1e-10),
    ],
)
def test_later_logits(name: str, options: dict[str, Any], value: float, rel: float) -> None:
    """Of networks whose classifiers read the average of their maps, where the method reads these."""
    method = create_method(name, **options)
    shapes = Shapes(5, 4, ((4, 4, 4),))
    method.prepare(shapes, shapes, 6, 240)
    networks = []
    for logits, other, maps, phase in zip((STUDENT, TEACHER), (STUDENT_2, TEACHER_2), MAPS, (11.0, 12.0), strict=True):
        pooled, weight = maps.mean(dim=(2, 3)), wave(5, 4, phase=phase)
        logits = pooled @ weight.T if name == "sdd" else logits
        networks.append(Outputs(logits, pooled, (maps,), (weight, None), Outputs(other)))
    terms = method(*networks, LABELS, 1.0)
    assert torch.stack(list(terms.values())).sum().item() == pytest.approx(value, rel=rel)


def test_ofa_of_one_branch() -> None:
    loss = enhanced_loss(STUDENT, TEACHER, LABELS, 1.5, label=False, power=1.5)
    assert loss.item() == pytest.approx(1.77993573421, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "options", "value"),
    [
        ("at", {}, 17.8060157607),
        ("nst", {}, 11.1383998566),
        ("sp", {}, 8.41519380211),
        ("pkt", {}, 378.688290615),
        ("rkd", {}, 1.55028706593),
        ("catkd", {"weight": 50.0}, 2.50395355395),
        ("catkd", {"weight": 15.0, "normalize": False}, 224.659921718),
    ],
)
def test_features(name: str, options: dict[str, Any], value: float) -> None:
    method = create_method(name, **options)
    shapes = Shapes(5, 4 if name == "catkd" else 8, ((4, 4, 4),))
    method.prepare(shapes, shapes, 6, 240)
    student, teacher = (
        Outputs(logits, maps.mean(dim=(2, 3)) if name == "catkd" else pooled, (maps,), (wave(5, 4, phase=phase), None))
        for logits, pooled, maps, phase in zip((STUDENT, TEACHER), POOLED, MAPS, (11.0, 12.0), strict=True)
    )
    terms = method(student, teacher, LABELS, 1.0)
    rel = 1e-6 if name == "pkt" else 1e-10  # whose 1e-7 is elsewhere
    assert torch.stack(list(terms.values())).sum().item() == pytest.approx(value, rel=rel)


def test_with_projections() -> None:
    """The part of a method after what it learns."""
    weights = wave(128, 8, phase=9.0) / 10, wave(128, 8, phase=10.0) / 10
    embedded = [pooled @ weight.T for pooled, weight in zip(POOLED, weights, strict=True)]
    assert CC.presets["published"]["weight"] * neighbours(*embedded).item() == pytest.approx(1.47284529991, rel=1e-10)
    factors = [unit_rows(maps.square().mean(dim=1).flatten(1), center=False) for maps in MAPS]
    assert 200 * (factors[0] - factors[1]).abs().mean().item() == pytest.approx(21.9559455732, rel=1e-10)
    assert hierarchical_distance(*MAPS).item() == pytest.approx(3.40976962147, rel=1e-10)
    margin = -torch.arange(1, 5, dtype=torch.float64).view(1, 4, 1, 1) / 4
    distance = partial_square(MAPS[0], torch.maximum(MAPS[1], margin)).sum(dim=(1, 2, 3)).mean()
    assert 0.001 * distance.item() == pytest.approx(0.215401525702, rel=1e-10)


def test_crd_with_their_banks_and_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    index = torch.tensor([0, 3, 5, 7, 8, 11])
    negatives = (torch.arange(24).reshape(6, 4) * 5 + 1) % 12
    negatives = torch.where(negatives == index.unsqueeze(1), (negatives + 1) % 12, negatives)
    monkeypatch.setattr("mcld.methods.crd.draw_negatives", lambda *_: negatives)
    method = CRD(negatives=4, dim=3)
    method.prepare(Shapes(5, 8), Shapes(5, 8), 12, 0)
    method.double()
    method.banks = {role: F.normalize(wave(12, 3, phase=p)) for role, p in (("student", 25.0), ("teacher", 26.0))}
    with torch.no_grad():
        for one, phase in ((method.student_map, 21.0), (method.teacher_map, 22.0)):
            assert isinstance(one, torch.nn.Linear)
            one.weight.copy_(wave(3, 8, phase=phase))
            one.bias.copy_(wave(3, phase=phase + 2))
    networks = [Outputs(logits, pooled) for logits, pooled in zip((STUDENT, TEACHER), POOLED, strict=True)]
    for value in (25.399048679311345, 10.275830381871403):  # theirs adds 1e-7; the second after the banks have learnt
        terms = method(*networks, LABELS, 1.0, index)
        assert torch.stack(list(terms.values())).sum().item() == pytest.approx(value, rel=1e-6)


def test_srd_and_simkd() -> None:
    networks = [Outputs(logits, pooled) for logits, pooled in zip((STUDENT, TEACHER), POOLED, strict=True)]
    method = SRD(weight=2.0)
    method.prepare(Shapes(5, 8), Shapes(5, 8), 6, 0)
    method.double()
    assert isinstance(method.projector, torch.nn.Linear)
    with torch.no_grad():
        method.projector.weight.copy_(wave(8, 8, phase=31.0))
        method.projector.bias.copy_(wave(8, phase=32.0))
    sum_of_48 = method(*networks, LABELS, 1.0)["distance"].item() + 2 * math.log(48)  # ours is of the mean
    assert sum_of_48 == pytest.approx(11.946094860798546, rel=1e-10)
    # Of maps of 1 x 1, which are what pooling makes of them.
    features = create_method("simkd")(*networks, LABELS, 1.0)["features"]
    assert features.item() == pytest.approx(4.805721778886507, rel=1e-10)
