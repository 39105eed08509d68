"""What the formats have in common that hold weights only: PyTorch runs them."""

import torch
from torch import Tensor

from mcld.exports._base import Export, Job, Runner
from mcld.models.network import Network


class Weights(Export):
    """Weights, for the code of the network."""

    def inputs(self, job: Job, images: Tensor) -> Tensor:  # noqa: ARG002 (the network normalises them)
        """See :meth:`Export.inputs`."""
        return images


def runner(network: Network) -> Runner:
    """Runs a network on uint8 images (B, channels, H, W)."""
    network.eval()

    def run(images: Tensor) -> tuple[Tensor, None]:
        with torch.no_grad():
            return network(images), None

    return run


def empty(job: Job) -> Network:
    """The same network with other weights, to be filled from what was written."""
    spec = job.network.spec
    try:
        return spec.build(pretrained=False)
    except ValueError:  # an object from Python has no name to build it by
        import copy

        other = Network(copy.deepcopy(job.network.model), spec)
        with torch.no_grad():
            for value in other.model.state_dict().values():
                value.zero_()
        return other
