import inspect

import pytest

from mcld.errors import InputError
from mcld.methods import Shapes, create_method, list_methods, method_class


@pytest.mark.parametrize("name", list_methods())
def test_no_option_is_a_slip_of_the_pen(name: str) -> None:
    for key, parameter in inspect.signature(method_class(name)).parameters.items():
        if isinstance(parameter.default, float):
            for value in (1e30, -1e30) if parameter.default < 0 else (1e30, -1.0):
                with pytest.raises(InputError, match=rf"^{key} is .*; expected"):
                    create_method(name, **{key: value})


@pytest.mark.parametrize("name", list_methods())
def test_no_count_is_more_than_any_machine_holds(name: str) -> None:
    shapes = Shapes(10, 8, ((4, 8, 8), (8, 4, 4), (8, 2, 2)))
    for key, parameter in inspect.signature(method_class(name)).parameters.items():
        if isinstance(parameter.default, int) and not isinstance(parameter.default, bool):
            with pytest.raises(InputError, match=rf"\b{10**12}\b"):
                create_method(name, **{key: 10**12}).prepare(shapes, shapes, images=40, epochs=2)


def test_a_bank_may_hold_a_training_set_of_any_size() -> None:
    method, shapes = create_method("mcld", bank=2**20 + 1), Shapes(10)
    method.prepare(shapes, shapes, images=2**20 + 1, epochs=2)
    with pytest.raises(InputError, match=r"^bank is 1048577; expected at most 1048576 rows, or .* images \(40\)"):
        method.prepare(shapes, shapes, images=40, epochs=2)


def test_a_temperature_that_leaves_nothing_of_the_logits() -> None:
    for value in (1e-9, 1e4):
        with pytest.raises(InputError, match=r"expected a positive number, from 0\.001 to 1000"):
            create_method("kd", temperature=value)
    with pytest.raises(InputError, match=r"instance.temperature is 1e\+30"):
        create_method("mcld", instance={"temperature": 1e30})
