"""Methods that wrap another one: the loss of each image by itself, and what can be wrapped."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mcld import InputError, create_method
from mcld.methods import Method, Shapes, list_methods, method_class
from mcld.methods._per_image import PerImage, losses_of_images, per_image_methods
from mcld.methods.eakd import entropy


def batch(B: int = 6, C: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    s, t = 2 * torch.randn(2, B, C, generator=g, dtype=torch.float64)
    return s.requires_grad_(), t, torch.randint(C, (B,), generator=g)


def made(name: str, **options: Any) -> Method:
    method = create_method(name, **options)
    method.prepare(Shapes(5), Shapes(5), images=6, epochs=240)
    return method


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def test_what_can_be_wrapped() -> None:
    assert {"kd", "dkd", "nkd", "rld", "pld", "ldrld"} <= set(per_image_methods())
    assert not {"mcld", "dist", "mlkd", "crld", "plain", "fitnet", "wkd", "normkd", "eakd", "sdd"} & set(
        per_image_methods()
    )


@pytest.mark.filterwarnings("error")  # such as vmap's, of an operation that it has no rule for
@pytest.mark.parametrize("name", per_image_methods())
def test_losses_of_images_are_those_of_batches_of_one(name: str) -> None:
    s, t, y = batch()
    method = made(name)
    found = losses_of_images(method, s, t, y, 0.3)
    alone = [method(s[i : i + 1], t[i : i + 1], y[i : i + 1], 0.3) for i in range(len(y))]
    expected = {term: torch.stack([terms[term] for terms in alone]) for term in alone[0]}
    torch.testing.assert_close(found, expected)
    weights = torch.arange(1.0, 7.0, dtype=torch.float64)
    one, other = (total({n: (w * weights).sum() for n, w in losses.items()}) for losses in (found, expected))
    torch.testing.assert_close(torch.autograd.grad(one, s), torch.autograd.grad(other, s))


def test_weights_of_eakd_are_constants() -> None:
    s, t, y = batch()
    weights = entropy(t / 3) * (1 + entropy(s.detach() / 3) / math.log(5)) / 2
    own = losses_of_images(made("dkd"), s, t, y, 1.0)
    expected = torch.autograd.grad(total({name: (weights * loss).mean() for name, loss in own.items()}), s)
    found = torch.autograd.grad(total(made("eakd", of="dkd")(s, t, y, 1.0)), s)
    torch.testing.assert_close(found, expected)


def test_a_sure_teacher_is_not_listened_to() -> None:
    s, _, y = batch()
    certain = 1e4 * torch.nn.functional.one_hot(y, 5).double()
    assert total(create_method("eakd")(s, certain, y)).item() == 0.0


def test_normkd_does_not_see_the_scale_of_the_student() -> None:
    s, t, y = batch()
    method = create_method("normkd")
    torch.testing.assert_close(method(7 * s + 2, t, y), method(s, t, y))
    scaled = method(s, 3 * t, y)
    torch.testing.assert_close(scaled["kl"], 9 * method(s, t, y)["kl"])  # the teacher's scale is a weight alone
    constant = method(s, torch.ones_like(t), y)
    assert constant["kl"].item() == 0.0


def test_what_the_wrapper_takes_over() -> None:
    method = create_method("eakd", of="dkd", options={"warmup": 10.0, "beta": 2.0})
    assert isinstance(method, PerImage)
    assert method.ce_weight == 1.0
    assert method.target_terms == {"target"}
    assert create_method("eakd").ce_weight == 0.1
    method.prepare(Shapes(5), Shapes(5), 10, epochs=20)
    s, t, y = batch()
    early, late = method(s, t, y, 0.0), method(s, t, y, 0.5)
    torch.testing.assert_close(late["target"], 10 * early["target"])
    with pytest.raises(InputError, match=r"eakd changes with the progress of training; expected progress=\.\.\."):
        method(s, t, y)
    with pytest.raises(InputError, match="dkd counts epochs; expected how many there are"):
        create_method("eakd", of="dkd")(s, t, y, 0.5)
    assert [name for name, _ in create_method("eakd", of="ctkd").named_parameters()] == ["inner.t"]


def test_combines_with_others() -> None:
    s, t, y = batch()
    both = create_method(["eakd", "mcld"], eakd={"of": "dkd"}, weights={"eakd": 2})
    both.prepare(Shapes(5), Shapes(5), images=6, epochs=240)
    terms = both(s, t, y, 1.0)
    expected = made("eakd", of="dkd")(s, t, y, 1.0)
    torch.testing.assert_close(terms["eakd.target"], 2 * expected["target"])


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("eakd", {"of": "dkdd"}, "there is no method 'dkdd'; did you mean 'dkd'"),
    ("eakd", {"of": "mcld"}, "of is 'mcld', which does not treat each image by itself, on logits of one view; "),
    ("eakd", {"of": "crld"}, "of is 'crld', which does not treat each image by itself, on logits of one view"),
    ("eakd", {"of": "fitnet"}, "of is 'fitnet', which does not treat each image by itself"),
    ("eakd", {"of": "eakd"}, "of is 'eakd', which does not treat each image by itself"),
    ("eakd", {"of": "plain"}, "of is 'plain', which does not treat each image by itself"),
    ("eakd", {"of": 3}, "of is 3; expected a word"),
    ("eakd", {"options": {"wait": 1}}, "there is no option of kd 'wait'; did you mean 'weight'"),
    ("eakd", {"options": {"weight": -1}}, "weight is -1; expected a positive number"),
    ("eakd", {"options": 3}, "options is 3; expected a mapping"),
    ("normkd", {"of": "mse"}, "of is 'mse', which has no temperature; expected a method that has, such as 'kd'"),
    ("normkd", {"options": {"temperature": 2}}, "options holds a temperature; normkd expects it as its own"),
    ("sdd", {"of": "dist"}, "of is 'dist', which does not treat each image by itself"),
    ("sdd", {"grid": 3}, "grid is 3; expected 1, 2 or 4"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD)
def test_what_cannot_be_wrapped(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        create_method(name, **options)
    assert "\n" not in str(caught.value)


def test_methods_of_others_can_be_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcld.methods import LogitMethod, Terms
    from mcld.registry import METHODS, register_method

    entries = dict(METHODS._entries)
    monkeypatch.setattr(METHODS, "_entries", entries)

    @register_method("halved")
    class Halved(LogitMethod):
        """Half the squared difference."""

        requires_global_batch = False

        def terms(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Terms:
            return {"half": (student - teacher).square().mean() / 2}

    s, t, y = batch()
    assert "halved" in list_methods()
    assert issubclass(method_class("halved"), Method)
    found = create_method("eakd", of="halved")(s, t, y)["half"]
    weights = entropy(t / 3) * (1 + entropy(s.detach() / 3) / math.log(5)) / 2
    torch.testing.assert_close(found, (weights * (s - t).square().mean(dim=1) / 2).mean())
