"""A teacher network that is run at every step."""

import copy

import torch
from torch import Tensor, nn

from mcld.data import Batch
from mcld.features import Features
from mcld.methods import Outputs
from mcld.methods._base import LOGITS
from mcld.models.folding import fold
from mcld.teacher.store import round_logits

FEWEST = 16
"""Images that a network is run on at least. CPU kernels round differently for batches smaller than this; with it the
logits of a view do not depend on how many others are computed beside it."""


class LiveTeacher:
    """Runs a frozen network, in evaluation mode, on the student's own view of each image.

    Where logits alone are read it runs a copy with batch normalisation folded into the convolutions. A hook would read
    other values there, so with other features it runs the network as it is.

    Args:
        network: from uint8 images (B, channels, H, W) to logits (B, C); it is frozen here.
        features: what else to read from the network; by default nothing.
        channels_last: how its convolutions lie in memory; the values are the same up to rounding.
        storage: round the logits as a store of ``fp16`` or ``fp32`` does; None leaves them as they are.

    Attributes:
        network: what is run.
    """

    def __init__(
        self,
        network: nn.Module,
        features: Features | None = None,
        *,
        channels_last: bool = False,
        storage: str | None = None,
    ) -> None:
        network.eval().requires_grad_(False)
        self._logits_only = features is None or features.needs <= LOGITS
        if self._logits_only:
            network = fold(network)
            features = None
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.features = features or Features(self.network)
        self.storage = storage

    def rounding(self, storage: str) -> "LiveTeacher":
        """The same teacher with its logits rounded as a store does: for a run whose store is out of reach."""
        other = copy.copy(self)
        other.storage = storage
        return other

    def __call__(self, batch: Batch) -> Outputs:
        """Outputs for the batch, without gradient."""
        if self._logits_only:
            logits = self.logits(one_by_one(batch.image))
            if self.storage is not None:
                logits = round_logits(logits, self.storage).float()
            return per_view(logits, batch.view.ndim)
        with torch.no_grad():
            return self.features(batch.image)

    def logits(self, images: Tensor) -> Tensor:
        """The logits (n, C) of images (n, channels, H, W)."""
        n = len(images)
        if n < FEWEST:
            images = images[torch.arange(FEWEST, device=images.device) % n]
        with torch.inference_mode():
            logits: Tensor = self.network(images)
        return logits[:n].clone()  # unlike what was made in inference mode the student's backward pass may keep it

    def save(self) -> None:
        """Nothing to save."""


def one_by_one(images: Tensor) -> Tensor:
    """Images (B, channels, H, W) as they are; of two views of each, (B, 2, ...), the first views, then the second."""
    return images.transpose(0, 1).flatten(0, 1) if images.ndim == 5 else images


def per_view(logits: Tensor, ndim: int) -> Outputs:
    """Outputs from logits in the order of :func:`one_by_one`; ``ndim`` is that of the view ids, 2 for two views."""
    if ndim == 1:
        return Outputs(logits)
    first, second = logits.chunk(2)
    return Outputs(first, other=Outputs(second))
