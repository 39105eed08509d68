"""What a network gives as its logits, and whether it takes the images at all."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mcld.errors import InputError

_KEYS = ("logits", "out", "output")  # of dictionaries; the first that is there


def logits_of(output: Any, name: str) -> Tensor:
    """The logits (B, C) in what a network gives: themselves, or beside auxiliary outputs.

    Args:
        output: a tensor, a tuple or list that begins with one, a dictionary that has ``logits``, ``out`` or ``output``,
            or an object with an attribute ``logits`` (as those of torchvision and Transformers).
        name: what to call the network in messages.

    Raises:
        InputError: for anything else, by name.
    """
    found = output
    if not isinstance(output, Tensor):
        if isinstance(output, Mapping):
            found = next((output[key] for key in _KEYS if key in output), None)
        elif hasattr(output, "logits"):
            found = output.logits
        elif isinstance(output, Sequence) and output:
            found = output[0]
    if not isinstance(found, Tensor) or found.ndim != 2:
        raise InputError(
            f"{name} gives {_described(output)}; expected logits (B, C), a tuple that begins with them, a dictionary "
            f"with {' or '.join(map(repr, _KEYS))}, or an object with .logits"
        )
    return found


def check_images(network: nn.Module, name: str, images: Tensor, classes: int, *, trained: bool) -> None:
    """Run a network on a few images, to know that it takes them; nothing of it changes.

    Args:
        network: from images to logits, on the CPU.
        name: what to call it in messages, with its role.
        images: (2, channels, H, W).
        classes: how many logits are expected.
        trained: also run it as in training, where some networks need larger images.

    Raises:
        InputError: when it does not take them, or gives something else than so many logits.
    """
    size = "×".join(map(str, images.shape[2:]))
    training = network.training
    try:
        for mode in (False, True) if trained else (False,):
            network.train(mode)
            state = {key: value.clone() for key, value in network.named_buffers()}  # running statistics
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                logits = functional_call(network, state, (images,))
    except InputError:
        raise
    except Exception as error:  # the forward pass of a network that others wrote may fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{name} does not take images of {size} px ({reason}){_smallest(network)}") from error
    finally:
        network.train(training)
    if logits.shape != (len(images), classes):
        raise InputError(
            f"{name} gives {tuple(logits.shape)} for {len(images)} images; expected logits of {classes} classes, "
            f"({len(images)}, {classes})"
        )


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with {', '.join(map(repr, list(output)[:5])) or 'nothing'}"
    if isinstance(output, Sequence) and output and isinstance(output[0], Tensor):
        return f"a {type(output).__name__} that begins with a tensor {tuple(output[0].shape)}"
    return f"a {type(output).__name__}"


def _smallest(network: nn.Module) -> str:
    """What is known of the smallest images that a network of torchvision takes."""
    spec = getattr(network, "spec", None)
    library, _, name = str(getattr(spec, "architecture", "")).partition("/")
    if library != "torchvision":
        return ""
    from torchvision.models import get_model_weights

    least = get_model_weights(name).DEFAULT.meta.get("min_size")
    return (
        f"; expected at least {least[0]}×{least[1]} px: data.image_size={max(least)}, where there is such an option"
        if least
        else ""
    )
