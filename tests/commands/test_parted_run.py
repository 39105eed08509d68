"""Runs with DOT and DeepKD: against SGD, resumed, on two processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mcld.engine.checkpoint import list_checkpoints
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]
SMALL = ["student=resnet8", "student.options.width=4", "threads=1", "schedule.lr=0.01", "data.batch_size=32"]
METHODS = {"dot": ["method=kd"], "deepkd": ["method=kd", "method.decoupled=true"]}


def words(arrays: list[str], teacher: Path, name: str, *more: str) -> list[str]:
    return [*arrays, f"teacher={teacher}", *SMALL, f"optimizer={name}", *METHODS.get(name, METHODS["dot"]), *more]


def weights(run: str) -> dict[str, torch.Tensor]:
    return load_file(RunDirectory(run).weights("last"))


def test_equal_momenta_train_as_sgd_does(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    for name in ("sgd", "dot", "deepkd"):
        status, _, err = mcld(
            "distill", *words(arrays, teacher, name, "schedule.epochs=1", "optimizer.delta=0", f"run={name}")
        )
        assert status == 0, err
    sgd = weights("sgd")
    for name in ("dot", "deepkd"):
        for key, value in weights(name).items():
            torch.testing.assert_close(value, sgd[key], atol=2e-5, rtol=1e-4)
    status, _, err = mcld("distill", *words(arrays, teacher, "dot", "schedule.epochs=1", "run=apart"))
    assert status == 0, err
    apart = weights("apart")
    assert max((apart[key] - sgd[key]).abs().max().item() for key in sgd) > 1e-3


@pytest.mark.parametrize("name", ["dot", "deepkd"])
@pytest.mark.usefixtures("both_checkpoints")
def test_resumed_runs_end_as_if_never_interrupted(mcld: Mcld, arrays: list[str], teacher: Path, name: str) -> None:
    assert mcld("distill", *words(arrays, teacher, name, "schedule.epochs=3"), "run=r")[0] == 0
    run = RunDirectory("r")
    newest = list_checkpoints(run.checkpoints)[0]
    expected = torch.load(newest, weights_only=True)
    newest.unlink()  # back to the end of the second epoch
    status, out, err = mcld("resume", "r")
    assert status == 0, err
    assert "going on with epoch 3" in out
    found = torch.load(list_checkpoints(run.checkpoints)[0], weights_only=True)
    torch.testing.assert_close(found["student"], expected["student"], rtol=0, atol=0)
    torch.testing.assert_close(found["optimizer"]["state"], expected["optimizer"]["state"], rtol=0, atol=0)
    parts = {"distillation", "task"} if name == "dot" else {"nontarget", "target", "task"}
    assert set(found["optimizer"]["state"][0]) == {f"momentum_{part}" for part in parts}


def test_a_dry_run(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    status, out, err = mcld("distill", *words(arrays, teacher, "deepkd", "schedule.epochs=1"), "--dry-run")
    assert status == 0, err
    assert "target" in out


def distilled(path: Path, *arguments: str) -> RunDirectory:
    command = [sys.executable, "-m", "mcld", "distill", *arguments, f"run={path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return RunDirectory(path)


@pytest.mark.slow  # its quick sibling is test_means_over_ranks in test_parted.py
def test_two_processes_train_the_same_network_as_one(tmp_path: Path, arrays: list[str], teacher: Path) -> None:
    vit = ["img_size=8", "patch_size=2", "embed_dim=32", "depth=2", "num_heads=2"]
    student = ["student=timm/vit_tiny_patch16_224", *(f"student.options.{option}" for option in vit)]
    both = [
        *words(arrays, teacher, "deepkd", "schedule.epochs=2", "schedule.lr=0.005", "optimizer.clip=1"),
        *student,
        "method=[dkd,mcld]",
        "method.dkd.warmup=0",
    ]
    both = [word for word in both if word not in ("student=resnet8", "student.options.width=4", *METHODS["deepkd"])]
    one, two = distilled(tmp_path / "one", *both), distilled(tmp_path / "two", *both, "devices=2")
    ours, theirs = (load_file(run.weights("last")) for run in (two, one))
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], atol=2e-5, rtol=1e-4)
    for row, other in zip(two.read_metrics(), one.read_metrics(), strict=True):
        for name in ("loss", "ce", "dkd.target", "mcld.instance", "val_loss"):
            assert row[name] == pytest.approx(other[name], rel=1e-4)


@pytest.mark.slow  # as the one above
def test_two_processes_have_one_set_of_running_statistics(tmp_path: Path, arrays: list[str], teacher: Path) -> None:
    settings = words(arrays, teacher, "dot", "devices=2")
    whole, kept = RunDirectory(tmp_path / "whole"), tmp_path / "kept"
    command = [sys.executable, "-m", "mcld", "distill", *settings, "schedule.epochs=2", f"run={whole.path}"]
    with subprocess.Popen(command) as process:
        while not (first := list(whole.checkpoints.glob("epoch00001-step0000000-*.ckpt"))) and process.poll() is None:
            time.sleep(0.01)
        os.link(first[0], kept)  # its end deletes it
    assert process.returncode == 0
    (last,) = list_checkpoints(whole.checkpoints)
    last.unlink()
    kept.rename(first[0])
    expected, rows = load_file(whole.weights("last")), whole.read_metrics()
    command = [sys.executable, "-m", "mcld", "resume", str(whole.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = load_file(whole.weights("last"))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert [row["val_loss"] for row in whole.read_metrics()] == [row["val_loss"] for row in rows]


BAD = [
    (["optimizer=deepkd", "method=kd"], "it has no such term; expected kd with method.decoupled=true, dkd"),
    (["optimizer=dot", "method=pld"], "optimizer=dot takes the task's part of the loss apart; ce_weight=0 leaves"),
    (["optimizer=dot", "optimizer.momentum=0.95"], "gives the part 'distillation' a momentum of 1.025; expected"),
    (["optimizer=dot", "optimizer.nesterov=true"], "optimizer=dot has no Nesterov's kind of momentum"),
    (["optimizer=dot", "optimizer.fused=true"], "optimizer.fused=true: there is no fused form of optimizer=dot"),
    (["optimizer=dot", "precision=16-mixed"], "optimizer=dot cannot undo the scaling of precision=16-mixed; expected"),
    (["optimizer=dots"], "optimizer=dots; expected one of sgd, adamw, lamb, lion, adan, adopt, nadamw, dot, deepkd"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_what_cannot_be(mcld: Mcld, arrays: list[str], teacher: Path, given: list[str], message: str) -> None:
    status, _, err = mcld("distill", *words(arrays, teacher, "dot", *given), "run=r")
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not Path("r").exists()


def test_training_alone_has_no_parts(mcld: Mcld, arrays: list[str]) -> None:
    status, _, err = mcld("train", *arrays, "model=resnet8", "optimizer=deepkd", "run=r")
    assert status == 2
    assert "optimizer=deepkd is for mcld distill: it takes the teacher's part of the loss apart" in err


@pytest.mark.parametrize("name", ["dot", "deepkd"])
def test_compiled_it_is_refused(mcld: Mcld, arrays: list[str], teacher: Path, name: str) -> None:
    status, _, err = mcld("distill", *words(arrays, teacher, name, "compile=true", "run=r"))
    assert (status, err.count("\n")) == (2, 1)
    assert f"compile=true: a step of optimizer={name} takes several backward passes" in err
    assert not Path("r").exists()
