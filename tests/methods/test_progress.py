"""What a schedule needs, the progress and the epochs, is never made up."""

import pytest
import torch
from tests.methods.feature_outputs import CAT_STUDENT, CAT_TEACHER, INDEX, LABELS, NAMES, STUDENT, TEACHER, C, outputs
from tests.methods.feature_outputs import ready as feature_ready

from mcld import InputError, create_method
from mcld.methods import Method, Shapes, list_methods

AVERAGED = ("catkd", "sdd")  # of which the classifiers read the average of the last maps


def ready(name: str, epochs: int = 10) -> Method:
    if name in NAMES:
        return feature_ready(name, *((CAT_STUDENT, CAT_TEACHER) if name in AVERAGED else (STUDENT, TEACHER)))
    method = create_method(name)
    method.prepare(Shapes(C), Shapes(C), 20, epochs)
    return method.double()


@pytest.mark.parametrize("name", [name for name in list_methods() if name not in ("plain", "simkd")])
def test_a_method_that_changes_with_progress_refuses_a_missing_one(name: str) -> None:
    method = ready(name).eval()
    if name == "reviewkd":
        method.warmup = 20.0  # type: ignore[assignment]  # 0 there
    if name == "sdd":
        method._seen = True  # type: ignore[assignment]  # made-up features are not looked at
    shapes = (CAT_STUDENT, CAT_TEACHER) if name in AVERAGED else (STUDENT, TEACHER)
    student, teacher = (outputs(shape, seed) for seed, shape in enumerate(shapes))
    found = [
        {key: value.detach() for key, value in method(student, teacher, LABELS, progress, INDEX).items()}
        for progress in (0.01, 0.3, 0.99)
    ]
    same = all(torch.equal(value, other[key]) for other in found[1:] for key, value in found[0].items())
    if method.ramps:
        assert not same or name == "ctkd"  # of which the gradient alone changes
        with pytest.raises(
            InputError, match=r"changes with the progress of training; expected progress=.* from 0 to 1"
        ):
            method(student, teacher, LABELS, None, INDEX)
    else:
        assert same
        assert method(student, teacher, LABELS, None, INDEX).keys() == found[0].keys()


@pytest.mark.parametrize("name", ["dkd", "ctkd", "reviewkd"])
def test_a_method_that_counts_epochs_refuses_to_guess_them(name: str) -> None:
    method = ready(name, epochs=0)
    method.epochs = 0
    if name == "reviewkd":
        method.warmup = 20.0  # type: ignore[assignment]
    assert method.counts_epochs
    with pytest.raises(InputError, match="counts epochs; expected how many there are: epochs="):
        method(outputs(STUDENT, 1), outputs(TEACHER, 2), LABELS, 0.5)
    assert not create_method("dkd", warmup=0).counts_epochs


def test_a_combination_ramps_when_one_of_its_methods_does() -> None:
    assert create_method(["kd", "dkd"]).ramps
    assert create_method(["kd", "dkd"]).counts_epochs
    assert not create_method(["kd", "dist"]).ramps
