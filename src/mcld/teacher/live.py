"""A teacher network that is run at every step."""

import torch
from torch import nn

from mcld.data import Batch
from mcld.features import Features
from mcld.methods import Outputs
from mcld.methods._base import LOGITS
from mcld.models.folding import fold


class LiveTeacher:
    """Runs a frozen network, in evaluation mode, on the student's own view of each image.

    Where logits alone are read it runs a copy with batch normalisation folded into the convolutions. A hook would read
    other values there, so with other features it runs the network as it is.

    Args:
        network: from uint8 images (B, channels, H, W) to logits (B, C); it is frozen here.
        features: what else to read from the network; by default nothing.
        channels_last: how its convolutions lie in memory; the values are the same up to rounding.

    Attributes:
        network: what is run.
    """

    def __init__(self, network: nn.Module, features: Features | None = None, *, channels_last: bool = False) -> None:
        network.eval().requires_grad_(False)
        self._logits_only = features is None or features.needs <= LOGITS
        if self._logits_only:
            network = fold(network)
            features = None
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.features = features or Features(self.network)

    def __call__(self, batch: Batch) -> Outputs:
        """Outputs for the batch, without gradient."""
        if not self._logits_only:
            with torch.no_grad():
                return self.features(batch.image)
        with torch.inference_mode():
            outputs = self.features(batch.image)
        return _usable(outputs)


def _usable(outputs: Outputs) -> Outputs:
    """Copies of logits, which unlike tensors made in inference mode the student's backward pass may keep."""
    other = None if outputs.other is None else _usable(outputs.other)
    return Outputs(outputs.logits.clone(), other=other)
