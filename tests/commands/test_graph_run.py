"""Runs with step=graph, on the CPU without the capture: the same weights as step by step, resumed like any other."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mcld.assembly import choices
from mcld.engine.checkpoint import list_checkpoints, read_checkpoint
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]
SMALL = ["student=resnet8", "student.options.width=4", "threads=1", "data.batch_size=24"]  # the last batch is smaller


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "GRAPHS", {"cpu"})


def weights(run: str) -> dict[str, torch.Tensor]:
    return load_file(RunDirectory(run).weights("last"))


@pytest.mark.parametrize(
    "more",
    [
        ["method=mcld"],
        ["method=[dkd,kd]", "method.dkd.warmup=2"],
        ["method=mlkd", "teacher.store=off"],
        ["method=mcld", "method.bank=16", "optimizer=adamw", "schedule.lr=0.001"],
    ],
)
def test_the_weights_of_eager_steps(mcld: Mcld, arrays: list[str], teacher: Path, more: list[str]) -> None:
    words = [*arrays, f"teacher={teacher}", *SMALL, "schedule.epochs=2", *more]
    for step in ("eager", "graph"):
        status, out, err = mcld("distill", *words, f"step={step}", f"run={step}")
        assert status == 0, err
        assert ("replayed steps" in out) == (step == "graph")
    eager, graph = weights("eager"), weights("graph")
    for key, value in eager.items():  # learning rates are tensors in float32
        torch.testing.assert_close(graph[key], value, rtol=1e-4, atol=1e-5)
    rows = [RunDirectory(step).read_metrics() for step in ("eager", "graph")]
    for ours, theirs in zip(*rows, strict=True):
        for name in set(ours) - {"seconds", "images_per_second"}:
            assert theirs[name] == pytest.approx(ours[name], rel=1e-3, abs=1e-5)


@pytest.mark.usefixtures("both_checkpoints")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_run_ends_with_the_same_bits(mcld: Mcld, arrays: list[str], teacher: Path, optimizer: str) -> None:
    words = [*arrays, f"teacher={teacher}", *SMALL, "method=mcld", "schedule.epochs=3", "schedule.lr=0.01"]
    status, _, err = mcld("distill", *words, "step=graph", f"optimizer={optimizer}", "run=r")
    assert status == 0, err
    run, expected = RunDirectory("r"), weights("r")
    newest, before = list_checkpoints(run.checkpoints)
    groups = read_checkpoint(newest)["optimizer"]["param_groups"]
    assert all(isinstance(group["lr"], float) and not group.get("capturable") for group in groups)
    newest.unlink()
    assert before.is_file()
    status, out, err = mcld("resume", "r")
    assert status == 0, err
    assert "going on with epoch 3" in out
    assert all(torch.equal(value, expected[key]) for key, value in weights("r").items())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["compile=true"], "step=graph needs compile=false"),
        (["optimizer.fused=false"], "step=graph needs optimizer=sgd or adamw, fused"),
        (["optimizer=dot"], "step=graph needs optimizer=sgd or adamw, fused"),
        (["method=at"], "step=graph is for methods on logits; at reads features: step=eager"),
        (["step=graphs"], "step=graphs; expected one of auto, graph, eager"),
    ],
)
def test_what_cannot_be(mcld: Mcld, arrays: list[str], teacher: Path, given: list[str], words: str) -> None:
    status, _, err = mcld("distill", *arrays, f"teacher={teacher}", *SMALL, "method=kd", "step=graph", *given, "run=r")
    assert (status, err.count("\n")) == (2, 1)
    assert words in err
    assert not Path("r").exists()


def test_without_a_gpu_it_is_refused(
    mcld: Mcld, arrays: list[str], teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "GRAPHS", {"cuda"})
    status, _, err = mcld("distill", *arrays, f"teacher={teacher}", *SMALL, "method=kd", "step=graph", "device=cpu")
    assert (status, err) == (2, "mcld: step=graph needs a CUDA device; expected that, or step=eager\n")
