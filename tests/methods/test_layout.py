"""Feature methods give the same numbers however the maps lie in memory."""

import pytest
import torch
from tests.methods.feature_outputs import INDEX, NAMES, S, T, leaves, ready, total
from torch import Tensor

from mcld.methods import Outputs


def lying(outputs: Outputs, layout: torch.memory_format) -> Outputs:
    assert outputs.pooled is not None
    maps = tuple(m.clone().contiguous(memory_format=layout).requires_grad_() for m in outputs.maps)
    return outputs._replace(pooled=outputs.pooled.clone().requires_grad_(), maps=maps)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last(name: str) -> None:
    found: list[tuple[Tensor, ...]] = []
    for layout in (torch.contiguous_format, torch.channels_last):
        student, teacher = lying(S, layout), lying(T, layout)
        method = ready(name).to(memory_format=layout)
        torch.manual_seed(1)
        loss = total(method, student, teacher, INDEX)
        gradients = torch.autograd.grad(loss, leaves(student), allow_unused=True)
        found.append((loss.detach(), *(g for g in gradients if g is not None)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
