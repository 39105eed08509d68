import copy
import dataclasses

import pytest
import torch
from torch import nn

from mcld.assembly.batchnorm import share_statistics
from mcld.configs.compose import compose
from mcld.configs.schema import Train
from mcld.models import ModelSpec


@pytest.mark.parametrize("name", ["resnet8", "timm/test_efficientnet"])
def test_on_cuda_batch_normalisation_is_synchronised_and_nothing_else_changes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where timm's layer has its activation inside."""
    network = ModelSpec(name, 4, 3, mean=[0.5] * 3, std=[0.5] * 3).build()
    settings = compose("train", ["data=digits", f"model={name}", "devices=2", "data.batch_size=64"])
    images = torch.rand(2, 3, 32, 32)
    before = copy.deepcopy(network).eval()(images)
    keys = list(network.model.state_dict())
    notes: list[str] = []
    monkeypatch.setattr("mcld.assembly.batchnorm.device_kind", lambda _: "cuda")
    share_statistics(network, settings, notes)
    norms = [part for part in network.model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(part, nn.SyncBatchNorm) for part in norms)
    assert list(network.model.state_dict()) == keys
    assert torch.equal(network.eval()(images), before)
    assert notes == []


def test_elsewhere_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    network = ModelSpec("resnet8", 4, 3, mean=[0.5] * 3, std=[0.5] * 3).build()
    settings = compose("train", ["data=digits", "model=resnet8", "devices=2", "data.batch_size=64", "device=cpu"])
    assert isinstance(settings, Train)
    notes: list[str] = []
    share_statistics(network, settings, notes)
    assert len(notes) == 1
    assert "batch normalisation takes its statistics from the 32 images of one device, not from the 64" in notes[0]
    share_statistics(network, dataclasses.replace(settings, devices=1), notes)
    assert len(notes) == 1
