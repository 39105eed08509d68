"""A network's answers to a whole split."""

import torch
from torch import Tensor

from mcld.data import Split, eval_batches
from mcld.models.network import Network


def network_logits(network: Network, split: Split) -> Tensor:
    """The network's logits (N, C) for the plain views, float32, on the CPU; it is moved to a GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device)
    training = network.training
    network.eval()
    rows = []
    with torch.no_grad():
        for batch in eval_batches(split, 256, device=device):
            rows.append(network(batch.image).float().cpu())
    network.train(training)
    return torch.cat(rows)
