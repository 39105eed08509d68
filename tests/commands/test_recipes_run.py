"""Runs with the recipes of today: resumed with the same bits, and refused in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mcld.engine.checkpoint import list_checkpoints
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]
SMALL = ["model=resnet8", "model.options.width=4", "threads=1", "data.batch_size=24", "schedule.epochs=2"]


def weights(run: str) -> dict[str, torch.Tensor]:
    return load_file(RunDirectory(run).weights("last"))


def check_resume(mcld: Mcld, run: str) -> None:
    expected = weights(run)
    newest, _ = list_checkpoints(RunDirectory(run).checkpoints)
    newest.unlink()
    status, out, err = mcld("resume", run)
    assert status == 0, err
    assert "going on with epoch 2" in out
    assert all(torch.equal(value, expected[key]) for key, value in weights(run).items())


@pytest.mark.usefixtures("both_checkpoints")
@pytest.mark.parametrize("optimizer", ["lamb", "lion"])
def test_optimizers_of_timm_resume_with_the_same_bits(mcld: Mcld, arrays: list[str], optimizer: str) -> None:
    words = [*arrays, *SMALL, f"optimizer={optimizer}", "optimizer.decay_norms=false", "run=r"]
    status, out, err = mcld("train", *words)
    assert status == 0, err
    assert f", {optimizer}, not compiled" in out
    first, second = (load["optimizer"] for load in map(_read, list_checkpoints(RunDirectory("r").checkpoints)))
    assert first["state"]
    assert [group["weight_decay"] for group in second["param_groups"]] == [5e-4, 0.0]
    check_resume(mcld, "r")


def _read(path: Path) -> dict[str, dict[str, list[dict[str, float]]]]:
    state: dict[str, dict[str, list[dict[str, float]]]] = torch.load(path, weights_only=True)
    return state


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["optimizer=lambda"], "optimizer=lambda; expected one of sgd, adamw, lamb, lion, adan, adopt, nadamw, "),
        (["optimizer=lion", "optimizer.fused=true"], "there is no fused form of optimizer=lion"),
    ],
)
def test_optimizers_that_cannot_be(mcld: Mcld, arrays: list[str], given: list[str], said: str) -> None:
    status, _, err = mcld("train", *arrays, *SMALL, *given, "run=r")
    assert (status, err.count("\n")) == (2, 1)
    assert said in err
    assert not Path("r").exists()
