"""The last layer of a classifier: finding it, and putting another network's in its place."""

from typing import Any

from torch import nn

from mcld.errors import InputError, did_you_mean
from mcld.models._zoo import ZooModel


def find_head(model: nn.Module, name: str, path: str | None = None, *, argument: str = "") -> tuple[str, nn.Linear]:
    """The path and the module of the last Linear, whose input is the pooled feature.

    Args:
        model: an architecture of the zoo, timm, torchvision, or any other.
        name: what to call it in messages.
        path: of the module that a person has named; None to find it.
        argument: the one that names it, for messages.

    Raises:
        InputError: when it ends otherwise, or there is no such module.
    """
    if path is not None:
        named = named_module(model, path, argument, name)
        if not isinstance(named, nn.Linear):
            raise InputError(f"{argument}: module {path!r} of {name} is a {type(named).__name__}; expected a Linear")
        return path, named
    linears = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    found: Any = None
    if isinstance(model, ZooModel):
        found = model.get_submodule(model.head)
    elif callable(get := getattr(model, "get_classifier", None)):
        found = get()
    elif linears:
        found = model.get_submodule(linears[-1])
    if isinstance(found, nn.Sequential):
        found = found[-1]
    if not isinstance(found, nn.Linear):
        last = "no Linear" if found is None else f"a {type(found).__name__}"
        other = f"; {argument}=... names it" if argument else ""
        raise InputError(f"{name} ends with {last}; for its pooled features, expected one Linear{other}")
    return next(path for path in linears if model.get_submodule(path) is found), found


def classifier_paths(model: nn.Module) -> list[str]:
    """Module paths of the last layers that give logits: mostly one; two where timm has a second one (distilled).

    Auxiliary classifiers are not among them. Empty where none can be found.
    """
    if isinstance(model, ZooModel):
        return [model.head]
    found: Any = None
    if callable(get := getattr(model, "get_classifier", None)):
        found = get()
    modules = list(found) if isinstance(found, tuple) else [found]
    modules = [module[-1] if isinstance(module, nn.Sequential) else module for module in modules]
    named = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    paths = [path for path, module in named if any(module is one for one in modules)]
    return paths or [path for path, _ in named[-1:]]


def named_module(model: nn.Module, path: str, argument: str, name: str) -> nn.Module:
    """The module at a path that a person has named.

    Args:
        model: to look in.
        path: as for ``get_submodule``.
        argument: the one that names it, for messages.
        name: of the network, for messages.

    Raises:
        InputError: when there is none, with the nearest.
    """
    known: dict[str, nn.Module] = {known_path: module for known_path, module in model.named_modules() if known_path}
    if path in known:
        return known[path]
    outer = [known_path for known_path in known if known_path.count(".") < 2]
    hint = did_you_mean(path, known, most=3)
    right = ", ".join(outer[:30]) + (", …" if len(outer) > 30 else "")
    raise InputError(f"{argument}: {name} has no module {path!r}; {hint}it has {right}")


def replace_head(
    model: nn.Module,
    name: str,
    width: int,
    num_classes: int,
    path: str | None = None,
    argument: str = "student_classifier",
) -> nn.Linear:
    """Put a projector to ``width`` features and a new Linear in place of the last layer; returns the new Linear.

    Raises:
        InputError: when the last layer is no Linear.
    """
    path, old = find_head(model, name, path, argument=argument)
    last = nn.Linear(width, num_classes)
    projector = (nn.Linear(old.in_features, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
    model.set_submodule(path, nn.Sequential(*projector, nn.Linear(width, width), last).to(old.weight.device))
    return last
