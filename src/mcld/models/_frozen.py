"""A network whose backbone stays as it is."""

import dataclasses
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mcld.errors import InputError
from mcld.models._head import find_head
from mcld.models.network import Network


class FrozenBackbone(Network):
    """A network of which the last Linear alone is trained; the rest is always in evaluation mode.

    It takes images as any :class:`Network`, or the features (B, width, 1, 1) that the last Linear gets.

    Args:
        network: trained.
        who: what to call it in messages.

    Attributes:
        width: of the features.

    Raises:
        InputError: when it does not end with one Linear.
    """

    def __init__(self, network: Network, who: str) -> None:
        super().__init__(network.model, network.spec)
        self.who = who
        self.path, head = find_head(network.model, who)
        self.width = head.in_features
        network.model.requires_grad_(False)
        head.requires_grad_(True)
        self.train(False)

    @property
    def head(self) -> nn.Linear:
        """The last Linear."""
        found = self.model.get_submodule(self.path)
        assert isinstance(found, nn.Linear)
        return found

    def train(self, mode: bool = True) -> "FrozenBackbone":  # noqa: ARG002
        """Stays in evaluation mode: neither batch statistics nor dropout change the features."""
        super().train(False)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """The logits (B, num_classes) of images, or of features (B, width, 1, 1) floating point."""
        if images.is_floating_point() and images.shape[1:] == (self.width, 1, 1):
            logits: Tensor = self.head(images.flatten(1))
            return logits
        output: Tensor = super().forward(images)
        return output

    def features(self, images: Tensor) -> Tensor:
        """The features (B, width) float32 of images (B, channels, H, W), without gradient.

        Raises:
            InputError: when the logits are not what the last layer gives for them.
        """
        self.eval()  # whatever has been done to its parts
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            with torch.no_grad():
                logits = super().forward(images)
        finally:
            hook.remove()
        if len(seen) != 1 or seen[0].ndim != 2 or not torch.allclose(self.head(seen[0]), logits, atol=1e-4, rtol=1e-3):
            raise InputError(
                f"{self.who} does more after its last layer {self.path!r} than give logits; expected freeze=none, or a "
                "network that ends with one Linear"
            )
        return seen[0].float()

    def backbone_digest(self) -> str:
        """A hex digest of all weights but the head's."""
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            if name.rpartition(".")[0] != self.path:
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def with_new_head(network: Network, who: str, classes: Sequence[str]) -> Network:
    """The network with a fresh last Linear for these classes.

    Raises:
        InputError: when it does not end with one Linear.
    """
    path, old = find_head(network.model, who)
    network.model.set_submodule(path, nn.Linear(old.in_features, len(classes), bias=old.bias is not None))
    spec = dataclasses.replace(network.spec, num_classes=len(classes), classes=list(classes), temperature=None)
    return Network(network.model, spec)


def cut_head(network: Network, who: str, classes: Sequence[str]) -> Network:
    """The network with those rows of its last Linear that belong to these classes, in their order.

    Args:
        network: that knows the names of its classes, these among them, each once.
        who: what to call it in messages.
        classes: at least one.

    Raises:
        InputError: when it does not end with one Linear.
    """
    rows = [network.spec.classes.index(name) for name in classes]
    _, old = find_head(network.model, who)
    cut = with_new_head(network, who, classes)
    _, head = find_head(cut.model, who)
    with torch.no_grad():
        head.weight.copy_(old.weight[rows])
        if old.bias is not None:
            head.bias.copy_(old.bias[rows])
    return cut
