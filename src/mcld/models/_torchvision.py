"""Classifiers of torchvision by name."""

from typing import Any

import torch
import torchvision
from torch import nn

from mcld.errors import InputError, unknown_name

# These two give their training-time extras as additional outputs, and change how they read images when pretrained.
_INCEPTIONS = ("googlenet", "inception_v3")


def create(name: str, num_classes: int, in_channels: int, *, pretrained: bool = False, **options: Any) -> nn.Module:
    """Make ``torchvision/name``, with the library's default weights when pretrained.

    Where ``in_channels`` is not 3, the first convolution is replaced: a new one, or, when pretrained, one whose weights
    treat the mean over the channels as a grey image. Where a pretrained head has other classes, a new head replaces it.

    Raises:
        InputError: for an unknown name, an option that the model does not take, or weights that cannot be had.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise unknown_name("classifier of torchvision", name, known, more="see torchvision.models", most=3)
    if name in _INCEPTIONS:
        options = {"aux_logits": False, "transform_input": in_channels == 3, **options}
        if not pretrained:
            options.setdefault("init_weights", True)
    try:
        if pretrained:
            model = torchvision.models.get_model(name, weights="DEFAULT", **options)
        else:
            model = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    except Exception as error:  # a model may refuse its options in any way, and so may a download
        reason = " ".join(str(error).split())[:300]
        if pretrained:
            raise InputError(
                f"torchvision/{name}: its pretrained weights cannot be had ({type(error).__name__}: {reason}); without "
                "a network give a file: checkpoint=FILE beside the name, instead of pretrained=true"
            ) from error
        raise InputError(
            f"torchvision/{name} refuses the options {options} ({type(error).__name__}: {reason})"
        ) from error
    assert isinstance(model, nn.Module)
    if pretrained:
        _replace_head(model, num_classes)
    if in_channels != 3:
        _replace_stem(model, in_channels, keep=pretrained)
    return model


def _replace_stem(model: nn.Module, in_channels: int, keep: bool) -> None:
    path, old = next((p, m) for p, m in model.named_modules() if isinstance(m, nn.Conv2d))
    new = _conv_like(old, in_channels, old.out_channels)
    if keep:
        with torch.no_grad():
            new.weight.copy_(old.weight.sum(1, keepdim=True) / in_channels)
            if old.bias is not None and new.bias is not None:
                new.bias.copy_(old.bias)
    model.set_submodule(path, new)


def _replace_head(model: nn.Module, num_classes: int) -> None:
    # SqueezeNet ends with a convolution, everything else with a Linear.
    path, old = [(p, m) for p, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    if isinstance(old, nn.Linear):
        if old.out_features != num_classes:
            model.set_submodule(path, nn.Linear(old.in_features, num_classes, bias=old.bias is not None))
    elif old.out_channels != num_classes:
        model.set_submodule(path, _conv_like(old, old.in_channels, num_classes))


def _conv_like(old: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(
        inputs,
        outputs,
        (old.kernel_size[0], old.kernel_size[1]),
        (old.stride[0], old.stride[1]),
        old.padding if isinstance(old.padding, str) else (old.padding[0], old.padding[1]),
        (old.dilation[0], old.dilation[1]),
        bias=old.bias is not None,
    )
