"""Methods as functions: ``kd(student_logits, teacher_logits, labels, temperature=4)``.

There is one for every method that keeps nothing from step to step. Each is made from the method's class: the same
options, the same checks, and the sum of its terms as the result. What learns or remembers (projectors, banks) is a
class alone. Methods on features take :class:`mcld.Outputs`.

Example:
    >>> import torch
    >>> from mcld import functional
    >>> student, teacher, labels = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log(), torch.tensor([0])
    >>> round(functional.kd(student, teacher, labels, temperature=1, weight=1).item(), 4)  # log 2 - 0.5623
    0.1308
    >>> functional.dist(student, teacher, labels, temprature=1)
    Traceback (most recent call last):
    mcld.errors.InputError: there is no option of dist 'temprature'; did you mean 'temperature'? expected \
as_published, beta, check_values, epochs, gamma, index, progress, standardize or temperature
"""

from collections.abc import Callable
from typing import Any

from mcld._functional import function, function_names
from mcld.errors import InputError


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        return function(name)
    except InputError as error:
        raise AttributeError(f"mcld.functional: {error}") from error


def __dir__() -> list[str]:
    return function_names()
