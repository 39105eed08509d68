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

    Attributes:
        network: what is run. Where logits alone are read, this is a copy of the given network with batch normalisation
            folded into the convolutions; a hook would read other values there, so with features it is the given one.

    Args:
        network: from uint8 images (B, channels, H, W) to logits (B, C); it is frozen here.
        features: what else to read from the network; by default nothing.
        channels_last: how its convolutions lie in memory; the values are the same up to rounding.
    """

    def __init__(self, network: nn.Module, features: Features | None = None, *, channels_last: bool = False) -> None:
        network.eval().requires_grad_(False)
        if features is None or features.needs <= LOGITS:
            network = fold(network)
            features = None
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.features = features or Features(network)

    def __call__(self, batch: Batch) -> Outputs:
        """Outputs for the batch, without gradient."""
        # no_grad, not inference mode, whose tensors the student's backward pass refuses to keep.
        with torch.no_grad():
            return self.features(batch.image)
