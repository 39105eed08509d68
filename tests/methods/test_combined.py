"""Several methods at once."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mcld import KD, MCLD, InputError, create_method
from mcld.methods import Combined, Method, Outputs, Terms, combine
from mcld.methods.plain import Plain


class Scaled(Method):
    """A method with a parameter of its own that reads features."""

    title = "for the tests"
    needs = frozenset({"logits", "pooled"})
    requires_global_batch = False
    ce_weight = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        assert isinstance(student, Outputs)
        assert student.pooled is not None
        return {"scaled": self.scale * student.pooled.mean()}


def batch() -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    s, t = torch.randn(2, 6, 4, generator=g)
    return s, t, torch.randint(4, (6,), generator=g)


def test_terms_are_the_members_times_their_weights() -> None:
    s, t, y = batch()
    method = combine({"mcld": MCLD(), "kd": KD()}, weights={"kd": 0.5})
    terms = method(s, t, y, progress=0.2)
    mcld, kd = MCLD()(s, t, y, progress=0.2), KD()(s, t, y)
    assert list(terms) == ["mcld.instance", "mcld.sample", "mcld.category", "kd.kl"]
    for name, value in mcld.items():
        torch.testing.assert_close(terms[f"mcld.{name}"], value)
    torch.testing.assert_close(terms["kd.kl"], 0.5 * kd["kl"])


def test_traits_are_joined() -> None:
    assert combine({"kd": KD()}).requires_global_batch is False
    assert combine({"kd": KD()}).ce_weight == 0.1
    both = combine({"kd": KD(), "mcld": MCLD()})
    assert both.requires_global_batch is True
    assert both.ce_weight == 1.0
    assert both.needs == {"logits"}
    features = combine({"kd": KD(), "scaled": Scaled()})
    assert features.needs == {"logits", "pooled"}
    assert features.ce_weight == 0.5
    assert combine({"plain": Plain()}).needs == frozenset()
    assert Combined.needs == {"logits"}  # the class is as it was


def test_parameters_and_state_of_the_members() -> None:
    method = combine({"scaled": Scaled(), "mcld": MCLD(bank=4)}, weights={"scaled": 3.0})
    assert [name for name, _ in method.named_parameters()] == ["methods.scaled.scale"]
    s, t, y = batch()
    terms = method(Outputs(s, pooled=torch.ones(6, 2)), Outputs(t), y, progress=1)
    assert terms["scaled.scaled"].item() == 6.0
    other = combine({"scaled": Scaled(), "mcld": MCLD(bank=4)})
    other.load_state_dict(method.state_dict())
    mcld = other.methods["mcld"]
    assert isinstance(mcld, MCLD)
    assert mcld.bank.labels is not None
    assert torch.equal(mcld.bank.labels, y[-4:])


def test_a_method_of_weight_zero_is_left_out() -> None:
    s, t, y = batch()
    method = combine({"kd": KD(), "scaled": Scaled()}, weights={"scaled": 0})
    assert list(method(s, t, y)) == ["kd.kl"]
    assert method.needs == {"logits"}
    assert not list(method.parameters())


def test_check_values_reaches_the_members() -> None:
    s, t, y = batch()
    method = combine({"mcld": MCLD(), "kd": KD()})
    with pytest.raises(InputError, match="24 NaN or Inf"):
        method(s * torch.nan, t, y)
    method.check_values = False
    assert method(s * torch.nan, t, y, progress=1)["kd.kl"].isnan()
    method.check_values = True
    with pytest.raises(InputError, match="24 NaN or Inf"):
        method(s * torch.nan, t, y)


def test_index_and_training_mode_reach_the_members() -> None:
    s, t, y = batch()
    method = create_method(["mcld", "kd"], mcld={"bank": 6})
    method.eval()
    method(s, t, y, 1.0, torch.arange(6))
    assert isinstance(method, Combined)
    mcld = method.methods["mcld"]
    assert isinstance(mcld, MCLD)
    assert mcld.bank.index is None
    method.train()
    method(s, t, y, 1.0, torch.arange(6))
    assert mcld.bank.index is not None
    assert mcld.bank.index.tolist() == list(range(6))


def test_compiled() -> None:
    torch._dynamo.reset()
    s, t, y = batch()
    method = combine({"mcld": MCLD(), "kd": KD()}, weights={"kd": 0.5})
    torch.testing.assert_close(
        torch.compile(method, backend="aot_eager")(s, t, y, progress=1), method(s, t, y, progress=1)
    )


BAD: list[tuple[dict[str, Any], str]] = [
    ({"methods": {}}, "expected one with a positive weight"),
    ({"methods": {"kd": KD()}, "weights": {"kd": 0}}, r"the methods are \['kd'\] with weights \{'kd': 0\}"),
    ({"methods": {"kd": KD()}, "weights": {"kd": -1}}, "the weight of kd is -1; expected a number of at least 0"),
    ({"methods": {"kd": KD()}, "weights": {"kdd": 1}}, "no method among those combined: 'kdd'; did you mean 'kd'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_combinations(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        combine(**arguments)


@pytest.mark.parametrize("weights", [{}, {"plain": 0}])
def test_training_without_a_teacher_is_no_part_of_anything(weights: dict[str, float]) -> None:
    with pytest.raises(
        InputError, match=r"methods are \['plain', 'kd'\]; expected them without plain, which is training"
    ):
        create_method(["plain", "kd"], weights=weights)
    assert create_method(["plain"]).ce_weight == 1


def test_maps_before_and_after_the_activation_do_not_mix() -> None:
    with pytest.raises(InputError, match="reviewkd can choose: preactivation=none"):
        create_method(["reviewkd", "fitnet"])
    both = create_method(["reviewkd", "fitnet"], reviewkd={"preactivation": "none"})
    assert both.preactivation == "none"
    assert create_method(["reviewkd", "kd"]).preactivation == "teacher"


def test_one_method_that_wants_its_views_apart_parts_them() -> None:
    assert not create_method(["mlkd", "kd"]).separate_views
    assert create_method(["mlkd", "kd"], mlkd={"as_published": True}).separate_views
