"""Which models there are, and making one by name."""

import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mcld.checks import check_names
from mcld.errors import InputError
from mcld.options import check_option
from mcld.registry import MODELS

_EXTERNAL = ("timm", "torchvision")
# What libraries take as an option and is decided elsewhere.
_DECIDED = {
    **dict.fromkeys(("num_classes", "nb_classes"), "the classes of the data decide it"),
    **dict.fromkeys(("in_chans", "in_channels"), "the channels of the images decide it"),
    **dict.fromkeys(("name", "model_name"), "the model is named before its options"),
    "weights": "expected pretrained=true, or a checkpoint, beside the name of the model",
}


@dataclass(frozen=True)
class ModelEntry:
    """One model that goes by a name of its own.

    Attributes:
        name: the name in the tables of the field.
        family: of architectures; the file that holds it, without more.
        build: ``build(num_classes, in_channels, **options)``; its keyword-only parameters are the model's options.
        aliases: other names for it.
        lr: the field's learning rate for it, for SGD with batches of 64.
        input_size: the side in pixels that it was designed for.
        min_size: the smallest side that it takes.
    """

    name: str
    family: str
    build: Callable[..., nn.Module]
    aliases: tuple[str, ...] = ()
    lr: float = 0.05
    input_size: int = 32
    min_size: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """The options of the model with their defaults."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def list_models() -> list[ModelEntry]:
    """List the models, family by family: ours, and those of other packages.

    The names of timm and torchvision come on top of these.
    """
    entries = dict.fromkeys(MODELS.items().values())
    return sorted(entries, key=lambda entry: entry.family)


def find_model(name: str) -> ModelEntry:
    """Return the entry with this name or alias.

    An exact match wins over one that ignores case, so that ``ResNet18`` and ``resnet18`` both work.

    Raises:
        InputError: when there is none, with the nearest names.
    """
    found = MODELS.find(name)
    if found is None:
        found = next((MODELS.get(known) for known in MODELS.names() if known.lower() == name.lower()), None)
    if found is None:
        raise MODELS.unknown(name)
    return found


def default_lr(name: str) -> float:
    """Return the learning rate that belongs to a model, for SGD with batches of 64.

    It is 0.01 for MobileNets and ShuffleNets and 0.05 for everything else, also for names of timm and torchvision.

    Raises:
        InputError: for an unknown name of the zoo.
    """
    library, slash, rest = name.partition("/")
    if slash and library in _EXTERNAL:
        return 0.01 if "mobilenet" in rest.lower() or "shufflenet" in rest.lower() else 0.05
    return find_model(name).lr


def create_model(name: str, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """Make a classifier by name: images (B, in_channels, H, W), normalised, to logits (B, num_classes).

    - A name of the zoo (``resnet20``, ``wrn_40_2``, ``MobileNetV2`` …; see :func:`list_models`). The CIFAR ResNets take
      ``width``, the channels of the stem.
    - ``timm/NAME`` with any option of ``timm.create_model``, such as ``img_size=32, patch_size=4`` for a ViT.
    - ``torchvision/NAME``, a classifier of ``torchvision.models``. It knows three channels only; for another number its
      first convolution is replaced.

    The last two take ``pretrained=True``, which downloads weights unless they are in the cache of the library.

    Args:
        num_classes: at least 1.
        in_channels: at least 1.

    Raises:
        InputError: for an unknown name, with the nearest ones; for an option that the model does not have, with those
            that it has; for pretrained weights that cannot be had.

    >>> model = create_model("resnet8", num_classes=10, width=8)
    >>> sum(p.numel() for p in model.parameters())
    19954
    """
    for what, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{what} is {value!r}; expected an integer of at least 1")
    check_decided(name, options)
    library, slash, rest = name.partition("/")
    if slash and library not in _EXTERNAL:
        raise InputError(f"no model is called {name!r}; before the slash, expected timm or torchvision")
    if slash:
        external = importlib.import_module(f"mcld.models._{library}")
        model: nn.Module = external.create(rest, num_classes, in_channels, **options)
        return model
    entry = find_model(name)
    _check_options(entry, options)
    return entry.build(num_classes, in_channels, **options)


def check_decided(name: str, options: Mapping[str, Any]) -> None:
    """Check that no option says what is decided elsewhere, such as the number of classes.

    Raises:
        InputError: for the first that does.
    """
    for option, value in options.items():
        if option in _DECIDED:
            raise InputError(f"{name} takes no option {option}={value}: {_DECIDED[option]}")


def fitting_options(
    name: str, image_size: Sequence[int], options: Mapping[str, Any], *, patches: bool = True
) -> dict[str, Any]:
    """The options that a model should have besides those given, for images of this size.

    Only vision transformers of timm need any: ``img_size`` and, for small images, ``patch_size``.

    Args:
        name: as for :func:`create_model`.
        image_size: (height, width) in pixels.
        options: what a person has chosen.
        patches: whether patches may have another size than the published weights are for.

    >>> fitting_options("timm/deit_tiny_patch16_224", (32, 32), {})
    {'img_size': 32, 'patch_size': 4}
    """
    if not name.startswith("timm/"):
        return {}
    found: dict[str, Any] = importlib.import_module("mcld.models._timm").fitting(
        name.partition("/")[2], image_size, options, patches=patches
    )
    return found


def _check_options(entry: ModelEntry, options: dict[str, Any]) -> None:
    check_names(f"option of model {entry.name}:", options, entry.options)
    kinds = typing.get_type_hints(_called(entry.build), include_extras=True)
    for option, value in options.items():
        check_option(f"option {option} of model {entry.name}", value, kinds.get(option, Any))


def _called(build: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose annotations are those of the arguments."""
    while isinstance(build, functools.partial):
        build = build.func
    return build.__init__ if isinstance(build, type) else build  # type: ignore[misc]  # only its annotations are read
