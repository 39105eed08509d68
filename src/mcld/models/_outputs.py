"""Whether a network takes the images of the data at all, and gives logits for their classes."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mcld.errors import InputError
from mcld.outputs import split_output


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
                logits, _ = split_output(functional_call(network, state, (images,)), name)
    except InputError:
        raise
    except Exception as error:  # the forward pass of a network that others wrote may fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{name} does not take images of {size} px ({reason}){_smallest(network, images)}") from error
    finally:
        network.train(training)
    if logits.shape != (len(images), classes):
        raise InputError(
            f"{name} gives {tuple(logits.shape)} for {len(images)} images; expected logits of {classes} classes, "
            f"({len(images)}, {classes})"
        )


def _smallest(network: nn.Module, images: Tensor) -> str:
    """What is known of the smallest images that a network of torchvision takes."""
    spec = getattr(network, "spec", None)
    library, _, name = str(getattr(spec, "architecture", "")).partition("/")
    if library != "torchvision":
        return ""
    from torchvision.models import get_model_weights

    least = get_model_weights(name).DEFAULT.meta.get("min_size")
    if least and min(images.shape[2:]) >= max(least):  # true without auxiliary classifiers, which need larger images
        return "; expected larger images, or a network without auxiliary classifiers: options.aux_logits=false"
    return (
        f"; expected at least {least[0]}×{least[1]} px: data.image_size={max(least)}, where there is such an option"
        if least
        else ""
    )
