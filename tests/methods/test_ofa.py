"""OFA-KD: its loss against a loop, and its branches. Gradients, types and orders: see test_feature_methods.py."""

import math

import pytest
import torch
from tests.reference.logit_methods import mean, softmax
from tests.reference.nce import Row
from torch import nn

from mcld import InputError, create_method
from mcld.methods import Outputs, Shapes
from mcld.methods.ofa import OFA, branch, enhanced_loss

STUDENT, TEACHER = Shapes(4, 6, ((2, 8, 8), (4, 4, 4), (6, 2, 2))), Shapes(4, 9, ((3, 4, 4), (9, 4, 4)))


def loss_of_row(a: Row, b: Row, label: int, gamma: float, least: float, power: float) -> float:
    s, p = softmax(a), softmax(b)
    others = sum(math.pow(p[c], power) * math.log(s[c]) for c in range(len(a)) if c != label)
    return -(math.pow(1 + p[label], gamma) - least) * math.log(s[label]) - others


@pytest.mark.parametrize(("label", "power"), [(True, 1.0), (False, 1.0), (False, 1.5)])
def test_loss_equals_the_loop(label: bool, power: float) -> None:
    g = torch.Generator().manual_seed(0)
    s, t = 2 * torch.randn(2, 5, 4, generator=g, dtype=torch.float64)
    y = torch.tensor([0, 3, 1, 2, 2])
    rows = zip(s.tolist(), t.tolist(), y.tolist(), strict=True)
    expected = mean([loss_of_row(a, b, c, 1.5, 0.0 if label else 1.0, power) for a, b, c in rows])
    found = enhanced_loss(s, t, y, 1.5, label=label, power=power)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(
        lambda x: enhanced_loss(x, t, y, 1.5, label=label, power=power), s.clone().requires_grad_()
    )


def ready(**options: float | bool) -> OFA:
    torch.manual_seed(0)
    method = create_method("ofa", **options)
    assert isinstance(method, OFA)
    method.prepare(STUDENT, TEACHER, 10, 10)
    return method.double()


def outputs(shapes: Shapes, seed: int, B: int = 3) -> Outputs:
    g = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(B, *shape, generator=g, dtype=torch.float64) for shape in shapes.maps)
    return Outputs(
        torch.randn(B, 4, generator=g, dtype=torch.float64), torch.randn(B, shapes.pooled, generator=g).double(), maps
    )


@pytest.mark.parametrize("published", [False, True])
def test_terms(published: bool) -> None:
    s, t, y = outputs(STUDENT, 1), outputs(TEACHER, 2), torch.tensor([0, 1, 3])
    method = ready(gamma=1.5, temperature=2.0, weight=0.5, stages=3.0, as_published=published)
    terms = method(s, t, y)
    power = 1.5 if published else 1.0
    own = enhanced_loss(s.logits / 2, t.logits / 2, y, 1.5, label=False, power=power)
    torch.testing.assert_close(terms["logits"], 0.5 * own)
    assert method.branches is not None
    given = [made(maps) for made, maps in zip(method.branches, s.maps, strict=True)]
    stages = sum(enhanced_loss(x / 2, t.logits / 2, y, 1.5, label=not published, power=power) for x in given)
    torch.testing.assert_close(terms["stages"], 3.0 * stages)


def test_plain_distillation_at_gamma_1() -> None:
    """Without the label's part, gamma 1 leaves cross-entropy with the teacher's probabilities."""
    s, t, y = outputs(STUDENT, 1), outputs(TEACHER, 2), torch.tensor([0, 1, 3])
    soft = nn.functional.cross_entropy(s.logits, t.logits.softmax(dim=1))
    torch.testing.assert_close(ready()(s, t, y)["logits"], soft)


def test_a_branch_for_every_stage() -> None:
    method = ready()
    assert method.branches is not None
    assert len(method.branches) == 3
    strides = [
        [m.stride[0] for m in made.modules() if isinstance(m, nn.Conv2d) and m.groups > 1] for made in method.branches
    ]
    assert strides == [[2, 1, 2, 1], [2, 1], []]  # the resolution is halved once for each stage that follows
    for made, shape in zip(method.branches, STUDENT.maps, strict=True):
        assert made(torch.zeros(2, *shape, dtype=torch.float64)).shape == (2, 4)
        assert [m.in_features for m in made.modules() if isinstance(m, nn.Linear)] == [9]  # the wider of both
    assert branch(5, 0, 7, 3)(torch.zeros(2, 5, 1, 1)).shape == (2, 3)


def test_before_preparation() -> None:
    with pytest.raises(InputError, match="ofa has parts sized by the networks; call prepare"):
        create_method("ofa")(outputs(STUDENT, 1), outputs(TEACHER, 2), torch.tensor([0, 1, 3]))
