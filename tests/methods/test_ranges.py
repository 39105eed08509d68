import inspect

import pytest

from mcld.errors import InputError
from mcld.methods import create_method, list_methods, method_class


@pytest.mark.parametrize("name", list_methods())
def test_no_option_is_a_slip_of_the_pen(name: str) -> None:
    for key, parameter in inspect.signature(method_class(name)).parameters.items():
        if isinstance(parameter.default, float):
            for value in (1e30, -1e30) if parameter.default < 0 else (1e30, -1.0):
                with pytest.raises(InputError, match=rf"^{key} is .*; expected"):
                    create_method(name, **{key: value})


def test_a_temperature_that_leaves_nothing_of_the_logits() -> None:
    for value in (1e-9, 1e4):
        with pytest.raises(InputError, match=r"expected a positive number, from 0\.001 to 1000"):
            create_method("kd", temperature=value)
    with pytest.raises(InputError, match=r"instance.temperature is 1e\+30"):
        create_method("mcld", instance={"temperature": 1e30})
