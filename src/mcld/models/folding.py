"""Batch normalisation folded into the convolution before it: the same network in evaluation mode, with less to do."""

import copy
from collections import Counter

from torch import nn
from torch.fx import Node, Tracer

from mcld.models.network import unwrap

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Tracer(Tracer):
    """Keeps every batch normalisation whole: timm's has an activation in it and would be traced into."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, _BATCH_NORMS) or super().is_leaf_module(module, name)


def fold(network: nn.Module) -> nn.Module:
    """A copy of a network for evaluation without the batch normalisations that follow a convolution.

    In evaluation mode batch normalisation is y = (x - mean) · weight / sqrt(var + eps) + bias with constants, which the
    convolution's own weight and bias can take over. Which follows which is read off the traced forward pass (torch.fx),
    never off names: a pair is folded when both modules run once and nothing else reads the convolution's output. A
    network that cannot be traced is copied as it is.

    Args:
        network: a network, in either mode.

    Returns:
        The copy, in evaluation mode: its outputs are the network's up to rounding, its parameters are not.
    """
    folded = copy.deepcopy(network).eval()
    model = unwrap(folded)  # what normalises the images cannot be traced, and need not be
    for conv_name, norm_name in _pairs(model):
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        _take_over(conv, norm)
        parent, _, name = norm_name.rpartition(".")
        # timm's batch normalisation may drop and activate after it has normalised
        rest = [module for module in (getattr(norm, "drop", None), getattr(norm, "act", None)) if module is not None]
        setattr(model.get_submodule(parent), name, nn.Sequential(*rest) if rest else nn.Identity())
    return folded


def _pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch normalisations that can be folded into them."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # a forward pass that depends on its input fails in any way it likes
        return []
    modules = dict(network.named_modules(remove_duplicate=False))
    runs = Counter(id(modules[str(node.target)]) for node in graph.nodes if node.op == "call_module")

    def once(node: Node) -> bool:
        return node.op == "call_module" and runs[id(modules[str(node.target)])] == 1

    pairs = []
    for node in graph.nodes:
        if not once(node) or not _is_norm(modules[str(node.target)]):
            continue
        before = node.args[0] if node.args else None
        if isinstance(before, Node) and once(before) and len(before.users) == 1:
            conv = modules[str(before.target)]
            if type(conv) in _CONVOLUTIONS and _is_plain(conv):
                pairs.append((str(before.target), str(node.target)))
    return pairs


def _is_norm(module: nn.Module) -> bool:
    known = type(module) in _BATCH_NORMS or (type(module).__name__, type(module).__module__.split(".")[0]) in (
        ("BatchNormAct2d", "timm"),
    )
    return known and getattr(module, "running_mean", None) is not None and _is_plain(module)


def _is_plain(module: nn.Module) -> bool:
    """Whether running the module is its forward pass alone, on parameters that are what they are."""
    return not (module._forward_hooks or module._forward_pre_hooks or hasattr(module, "parametrizations"))


def _take_over(conv: nn.Module, norm: nn.Module) -> None:
    """Change the convolution's weight and bias so that it does what both did; in float64, then rounded once."""
    assert isinstance(conv, _CONVOLUTIONS)
    assert isinstance(norm, _BATCH_NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    dtype = conv.weight.dtype
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias = -norm.running_mean.double() if conv.bias is None else conv.bias.double() - norm.running_mean.double()
    bias = bias * scale
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    weight = conv.weight.double() * scale.view(-1, *[1] * (conv.weight.ndim - 1))
    conv.weight = nn.Parameter(weight.to(dtype).detach(), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype).detach(), requires_grad=False)
