import copy
import io

import pytest
import torch
from torch import nn

from mcld.assembly.optimizer_options import FROM_TIMM, Optimizer
from mcld.assembly.optimizers import create_optimizer
from mcld.engine.checkpoint import load_optimizer


def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    module(torch.linspace(-1, 1, 12).view(4, 3)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("name", FROM_TIMM)
def test_optimizers_of_timm_go_on_from_their_state(name: str) -> None:
    torch.manual_seed(0)
    settings, module = Optimizer(name=name, decay_norms=False), nn.Linear(3, 2)
    before = module.weight.detach().clone()
    optimizer = create_optimizer(settings, 0.01, module)
    for _ in range(2):  # ADOPT's first step only begins its moments
        step(module, optimizer)
    assert not torch.equal(module.weight, before)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    other = copy.deepcopy(module)
    again = create_optimizer(settings, 0.01, other)
    file.seek(0)
    load_optimizer(again, torch.load(file, weights_only=True))
    for _ in range(2):
        step(module, optimizer)
        step(other, again)
    assert torch.equal(module.weight, other.weight)
