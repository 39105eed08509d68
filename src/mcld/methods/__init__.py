"""Distillation methods: one file each; the file's name is the method's name."""

from collections.abc import Mapping, Sequence
from typing import Any

from mcld.checks import check_names
from mcld.errors import InputError
from mcld.methods._base import Method, Outputs, Shapes, Terms
from mcld.methods._combined import Combined
from mcld.methods._features import FeatureMethod
from mcld.methods._logits import LogitMethod
from mcld.methods.kd import KD
from mcld.methods.mcld import MCLD
from mcld.methods.mcld.options import Category, Instance, Sample
from mcld.registry import METHODS

__all__ = [
    "KD",
    "MCLD",
    "Category",
    "Combined",
    "FeatureMethod",
    "Instance",
    "LogitMethod",
    "Method",
    "Outputs",
    "Sample",
    "Shapes",
    "Terms",
    "combine",
    "create_method",
    "list_methods",
    "method_class",
]


def list_methods() -> list[str]:
    """The names of all methods, sorted: ours, and those of other packages.

    Example:
        >>> from mcld.methods import list_methods
        >>> {"kd", "mcld", "plain"} <= set(list_methods())
        True
    """
    return METHODS.names()


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        InputError: for an unknown name, with the nearest right one; for a package that cannot be imported.
    """
    return METHODS.get(name)


def create_method(name: str | Sequence[str], **options: Any) -> Method:
    """Make a method by its name, or a combination by several names.

    Args:
        name: one of :func:`list_methods`, or a sequence of them.
        options: of one method, the arguments of its class. Of a combination: the options of each method as a mapping
            under its name, and ``weights``, a mapping from names to weights of at least 0.

    Raises:
        InputError: for an unknown name or option, with the nearest right one, and for a value out of range.

    Example:
        >>> from mcld import create_method
        >>> create_method("kd", temperature=2)
        KD(temperature=2, weight=0.9, decoupled=False, standardize=False)
        >>> both = create_method(["mcld", "kd"], weights={"kd": 0.5}, mcld={"category": {"weight": 2}})
        >>> both.weights
        {'mcld': 1.0, 'kd': 0.5}
        >>> create_method("at", wait=2)
        Traceback (most recent call last):
        mcld.errors.InputError: there is no option of at 'wait'; did you mean 'weight'? expected weight
    """
    if isinstance(name, str):
        cls = method_class(name)
        check_names(f"option of {name}", options, cls.option_names())
        return cls(**options)
    names = list(name)
    if len(set(names)) < len(names) or not names:
        raise InputError(f"the methods are {names}; expected at least one, and each once")
    check_names("method", names, list_methods())
    check_names(f"option of the combination {names}", options, [*names, "weights"])
    for key, value in options.items():
        if not isinstance(value, Mapping):
            kind = "methods to weights" if key == "weights" else "options"
            raise InputError(f"{key} is {value!r}; expected a mapping of {kind}")
    return combine({name: create_method(name, **options.get(name, {})) for name in names}, options.get("weights"))


def combine(methods: Mapping[str, Method], weights: Mapping[str, float] | None = None) -> Combined:
    """Add several methods' terms, each times its method's weight.

    Args:
        methods: by name; the terms are called ``"name.term"``.
        weights: by name, at least 0; 1 where none is given. A method of weight 0 is not computed.

    Raises:
        InputError: without methods, for an unknown name among the weights, for weights that are negative or all 0.

    Example:
        >>> import torch
        >>> from mcld import KD, MCLD
        >>> from mcld.methods import combine
        >>> method = combine({"mcld": MCLD(), "kd": KD()}, weights={"kd": 0.5})
        >>> sorted(method(torch.eye(3), torch.eye(3), torch.arange(3), progress=1))
        ['kd.kl', 'mcld.category', 'mcld.instance', 'mcld.sample']
    """
    return Combined(methods, weights)
