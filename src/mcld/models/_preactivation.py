"""Where the maps of a network's stages are before their last activation, as ReviewKD and OFD read them."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from mcld.models._zoo import ZooModel

_LAST = ("act3", "act2", "relu")  # what timm, torchvision and the zoo call the activation that ends a residual block


class Tap(NamedTuple):
    """Where a map is read.

    Attributes:
        path: of a module, as for ``get_submodule``.
        before: whether it is the module's input, and not its output.
    """

    path: str
    before: bool


def before_activation(model: nn.Module, stages: Sequence[str]) -> list[Tap]:
    """Where each stage's map is before the activation that the stage ends with.

    That is the input of the activation: of a stage that is one, or whose last block or layer is. A stage that ends with
    none is read as it is. Networks that normalise at the beginning of a block (wide ResNets) say themselves where their
    next normalisation is: its output is what the activation gets.

    Args:
        model: the network.
        stages: paths of the modules that end the stages.
    """
    if isinstance(model, ZooModel) and model.preactivations and list(stages) == list(model.stages):
        return [Tap(path, before=False) for path in model.preactivations]
    return [_tap(path, model.get_submodule(path)) for path in stages]


def is_activation(module: nn.Module) -> bool:
    """Whether a module is an elementwise nonlinearity."""
    return type(module).__module__ == "torch.nn.modules.activation" and not isinstance(module, nn.MultiheadAttention)


def _tap(path: str, module: nn.Module) -> Tap:
    if is_activation(module):
        return Tap(path, before=True)
    if isinstance(module, nn.Sequential) and len(module):
        name, last = list(module.named_children())[-1]
        inner = _tap(f"{path}.{name}", last)
        return inner if inner.before else Tap(path, before=False)
    if type(module).__name__ in ("Block", "BasicBlock", "Bottleneck"):
        for name in _LAST:
            child = getattr(module, name, None)
            if isinstance(child, nn.Module) and is_activation(child):
                return Tap(f"{path}.{name}", before=True)
    return Tap(path, before=False)
