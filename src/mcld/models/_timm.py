"""Models of timm by name."""

import contextlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import nn

from mcld.errors import InputError, did_you_mean
from mcld.models._hub import hub_or_cache


def create(name: str, num_classes: int, in_channels: int, *, pretrained: bool = False, **options: Any) -> nn.Module:
    """Make ``timm/name``; timm adapts the first layer, the head and the position embeddings of pretrained weights.

    Raises:
        InputError: for an unknown name, an option that the model does not take or that names a file, or weights that
            cannot be had.
    """
    if not timm.is_model(name):
        base = name.partition(".")[0]  # what follows a dot names the pretrained weights
        hint = did_you_mean(base, timm.list_models(), most=3)
        raise InputError(f"there is no model of timm {name!r}; {hint}see timm.list_models()")
    _check_options(name, options)
    try:
        with hub_or_cache() if pretrained else contextlib.nullcontext():
            model = timm.create_model(
                name, pretrained=pretrained, num_classes=num_classes, in_chans=in_channels, **options
            )
    except Exception as error:  # a model of timm may refuse its options in any way, and so may a download
        reason = " ".join(str(error).split())[:300]
        if pretrained:
            raise InputError(
                f"timm/{name}: its pretrained weights cannot be had ({type(error).__name__}: {reason}); without a "
                "network give a file: checkpoint=FILE beside the name, instead of pretrained=true"
            ) from error
        raise InputError(f"timm/{name} refuses the options {options} ({type(error).__name__}: {reason})") from error
    assert isinstance(model, nn.Module)
    return model


def fitting(name: str, image_size: Sequence[int], options: Mapping[str, Any], *, patches: bool) -> dict[str, Any]:
    """The options that fit a vision transformer to small images, apart from those given.

    Its ``img_size`` becomes the images' own. Where they would have fewer than 7 patches on a side, ``patch_size``
    becomes the divisor of the side that gives about 8; and ``stride`` likewise where patches overlap (PiT).

    Args:
        name: of a model of timm.
        image_size: (height, width) in pixels.
        options: what a person has chosen.
        patches: whether patches may change; published weights are for patches of one size.

    Returns:
        Nothing for a model that takes any size as it is, or a name that timm does not have.
    """
    if not timm.is_model(name):
        return {}
    _check_options(name, options)
    model = _look(name, {})
    if model is None:
        return {}
    known = {
        parameter.name: parameter.default
        for kind in reversed(type(model).__mro__[:-1])
        for parameter in inspect.signature(vars(kind).get("__init__", kind)).parameters.values()
    }
    if "img_size" not in known:
        return {}
    height, width = image_size
    chosen: dict[str, Any] = {"img_size": height if height == width else [height, width]}
    stem = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if patches and stem is not None and isinstance(known.get("patch_size"), int):
        (patch, _), (stride, _) = stem.kernel_size, stem.stride
        side = math.gcd(height, width)
        if (patch == stride or "stride" in known) and max(height, width) / stride < 7:
            step = min(
                (n for n in range(1, side + 1) if side % n == 0),
                key=lambda n: abs(math.log(max(height, width) / n / 8)),
            )
            chosen["patch_size"] = step * patch // stride
            if "stride" in known:
                chosen["stride"] = step
    if {"patch_size", "stride"} & options.keys() or _look(name, {**options, **chosen}) is None:
        chosen = {"img_size": chosen["img_size"]}
    return {key: value for key, value in chosen.items() if key not in options}


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse the options that let timm read a file itself: a checkpoint is read here, where nothing in it can run."""
    for option in ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"):
        if option in options:
            raise InputError(
                f"timm/{name}: the option {option}={options[option]} is not allowed; expected checkpoint=FILE beside "
                "the name of the model, or load_checkpoint(model, FILE)"
            )


def _look(name: str, options: Mapping[str, Any]) -> nn.Module | None:
    """The model without weights, only to be looked at; None when it cannot be made so."""
    try:
        with torch.device("meta"):
            model: nn.Module = timm.create_model(name, **{k: v for k, v in options.items() if k != "pretrained"})
    except Exception:  # wrong options are reported by ``create``; a few models compute with their weights
        return None
    return model
