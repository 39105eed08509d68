"""Methods as functions: the same as their classes, with the same options, typed and documented."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.methods.feature_outputs import CAT_STUDENT, CAT_TEACHER, INDEX, LABELS, STUDENT, TEACHER, outputs

import mcld
from mcld import KD, InputError, Outputs, create_method, functional
from mcld._functional import function, function_names, stub
from mcld.methods import list_methods, method_class


@pytest.mark.parametrize("name", function_names())
def test_a_function_is_the_sum_of_its_classs_terms(name: str) -> None:
    shapes = (CAT_STUDENT, CAT_TEACHER) if name in ("catkd", "sdd") else (STUDENT, TEACHER)
    student, teacher = (outputs(shape, seed) for seed, shape in enumerate(shapes))
    if name == "sdd":  # whose classifiers read the average of the last maps
        student, teacher = (x._replace(pooled=x.maps[-1].mean(dim=(2, 3))) for x in (student, teacher))
    if name == "simkd":
        student = student._replace(pooled=teacher.pooled)
    if method_class(name).views == 2:
        student, teacher = (Outputs(x.logits, other=Outputs(x.logits.flip(0))) for x in (student, teacher))
    method = create_method(name)
    method.epochs = 50
    for inner in method.children():
        inner.epochs = 50  # type: ignore[assignment]  # of a wrapper, the other method's
    expected = torch.stack(list(method(student, teacher, LABELS, 0.1, INDEX).values())).sum()
    found = function(name)(student, teacher, LABELS, progress=0.1, epochs=50, index=INDEX)
    torch.testing.assert_close(found, expected)
    assert list(inspect.signature(function(name)).parameters)[7:] == method.option_names()
    documented = function(name).__doc__ or ""
    assert all(f"    {option}: " in documented for option in inspect.signature(function(name)).parameters)


def test_every_method_without_learnable_parts_is_there() -> None:
    learning = {"crd", "ctkd", "fitnet", "ft", "ofa", "ofd", "reviewkd", "srd", "vid"}
    assert set(function_names()) == set(list_methods()) - learning - {"plain"}
    assert dir(functional) == function_names()
    assert mcld.functional is functional


def test_options_gradients_and_two_views() -> None:
    g = torch.Generator().manual_seed(0)
    s, t = torch.randn(2, 6, 4, generator=g)
    y = torch.arange(6) % 4
    s.requires_grad_()
    loss = functional.kd(s, t, y, temperature=2, weight=0.5)
    torch.testing.assert_close(loss, KD(temperature=2, weight=0.5)(s, t, y)["kl"])
    assert torch.autograd.grad(loss, s)[0].abs().sum() > 0
    both = functional.mlkd(torch.stack([s, s], dim=1), torch.stack([t, t], dim=1), y)
    torch.testing.assert_close(both, functional.mlkd(Outputs(s, other=Outputs(s)), Outputs(t, other=Outputs(t)), y))
    assert functional.kd(student_logits=s, teacher_logits=t, labels=y).isfinite()
    assert functional.mcld(s, t, y, progress=0.5, category={"weight": 2}).isfinite()
    assert functional.kd(s, t, y, **KD.presets["imagenet"]).isfinite()


def test_what_cannot_be_is_refused() -> None:
    s, t, y = torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.raises(InputError, match=r"mcld changes with the progress of training; expected progress=\.\.\."):
        functional.mcld(s, t, y)
    with pytest.raises(InputError, match=r"dkd counts epochs; expected how many there are: epochs=\.\.\."):
        functional.dkd(s, t, y, progress=0.5)
    with pytest.raises(InputError, match="no option of kd 'temprature'; did you mean 'temperature'"):
        functional.kd(s, t, y, temprature=2)  # type: ignore[call-arg]  # that is the test
    with pytest.raises(InputError, match="labels range from 0 to 7"):
        functional.kd(s, t, torch.tensor([0, 7]))
    with pytest.raises(
        InputError, match=r"mcld keeps something from step to step with these options; expected create_m"
    ):
        functional.mcld(s, t, y, progress=1, bank=16)
    with pytest.raises(
        InputError, match=r"crd is no function: it keeps something from step to step; expected create_me"
    ):
        function("crd")
    with pytest.raises(AttributeError, match="no method 'kdd'; did you mean 'kd'"):
        functional.kdd  # type: ignore[attr-defined]  # noqa: B018 - that is the test
    anything: Any = [1.0]
    with pytest.raises(InputError, match="expected logits"):
        functional.kd(anything, t, y)


def test_the_stub_is_that_of_the_classes() -> None:
    file = Path(functional.__file__).with_suffix(".pyi")
    assert file.read_text(encoding="utf-8") == stub(), "write it anew: python -m mcld._functional"
