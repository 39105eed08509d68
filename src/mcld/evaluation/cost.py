"""What a network costs: parameters and multiply-accumulates."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mcld.errors import InputError


def count_parameters(model: nn.Module) -> int:
    """Count the parameters of a model, trainable or not, buffers left out; a shared one counts once."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: nn.Module, input_size: tuple[int, ...]) -> int:
    """Count the multiply-accumulates of one image in evaluation mode.

    Counted are convolutions, matrix products and attention, as ``torch.utils.flop_counter`` does (half of its FLOPs).
    Not counted are biases, normalisation, activations, pooling and additions: the convention of the published tables.
    The count runs the model once on zeros, on its own device, and leaves its modes and statistics as they were.

    Args:
        input_size: (channels, height, width) of an image, all at least 1.

    Raises:
        InputError: when the size is not of that form, or the model cannot take such images.

    >>> count_macs(nn.Conv2d(3, 16, 3, padding=1), (3, 32, 32)) == 32 * 32 * 16 * 3 * 3 * 3
    True
    """
    if len(input_size) != 3 or min(input_size) < 1:
        raise InputError(f"input_size is {tuple(input_size)}; expected (channels, height, width), all at least 1")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # The fused attention of the CPU is unknown to the counter; as two matrix products it is counted. Gradients are
        # on, since without them the counter stumbles over a module that takes a parameter as its input (PiT).
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, *input_size, device=like.device, dtype=like.dtype))
    except (RuntimeError, AssertionError, ValueError) as error:
        size = "×".join(map(str, input_size))
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the network cannot take images of {size}: {reason}") from error
    finally:
        for module, training in modes:
            module.training = training
    return int(counter.get_total_flops()) // 2
