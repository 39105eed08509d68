"""Whole runs on two processes, for real."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mcld.engine.checkpoint import list_checkpoints
from mcld.runs import RunDirectory

# A transformer, since batch normalisation makes two processes differ from one by design: each normalises its own share.
STUDENT = [
    "student=timm/vit_tiny_patch16_224",
    *(
        f"student.options.{option}"
        for option in ("img_size=8", "patch_size=2", "embed_dim=32", "depth=2", "num_heads=2")
    ),
]
WORDS = [
    *STUDENT,
    "method=[mcld,kd]",
    "method.mcld.bank=64",
    "schedule.epochs=3",
    "schedule.lr=0.005",  # so that rounding grows to 4e-6 of a weight only; a gradient wrong by 1% would be 7e-4
    "seed=1",
    "log_every=1",
]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def words(arrays: list[str], teacher: Path) -> list[str]:
    return ["distill", *arrays, f"teacher={teacher}", *WORDS, "optimizer.clip=5"]  # larger steps make more of rounding


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> RunDirectory:
    path = tmp_path_factory.mktemp("two") / "run"
    run(sys.executable, "-m", "mcld", *words, "devices=2", f"run={path}")
    return RunDirectory(path)


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_file(run.weights("last"))


def test_two_processes_train_the_same_network_as_one(tmp_path: Path, words: list[str], two: RunDirectory) -> None:
    run(sys.executable, "-m", "mcld", *words, f"run={tmp_path / 'one'}")
    one = RunDirectory(tmp_path / "one")
    ours, theirs = weights(two), weights(one)
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], atol=2e-5, rtol=1e-4)
    for row, other in zip(two.read_metrics(), one.read_metrics(), strict=True):
        for name in ("loss", "ce", "mcld.instance", "mcld.category", "kd.kl", "val_loss"):
            assert row[name] == pytest.approx(other[name], rel=1e-4)
        for name in ("train_top1", "val_top1", "agreement"):  # every image counted once
            assert row[name] == pytest.approx(other[name], abs=1e-9)


def test_torchrun_gives_the_same_bits(tmp_path: Path, words: list[str], two: RunDirectory) -> None:
    path = tmp_path / "run"
    launcher = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=localhost:0",
    ]
    run(sys.executable, *launcher, "-m", "mcld", *words, "threads=1", f"run={path}")
    ours, theirs = weights(RunDirectory(path)), weights(two)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert "devices: 2" in (path / "config.yaml").read_text()


def test_two_processes_stop_in_order_and_go_on_exactly(tmp_path: Path, words: list[str], two: RunDirectory) -> None:
    run_directory = RunDirectory(tmp_path / "run")
    process = subprocess.Popen(
        [sys.executable, "-m", "mcld", *words, "devices=2", f"run={run_directory.path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not list_checkpoints(run_directory.checkpoints) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, out
    assert "everything is saved" in out
    run(sys.executable, "-m", "mcld", "resume", str(run_directory.path))
    ours, theirs = weights(run_directory), weights(two)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    rows, others = (list(csv.DictReader(r.metrics.open())) for r in (run_directory, two))
    assert [row["loss"] for row in rows] == [row["loss"] for row in others]


@pytest.mark.parametrize(("error", "status"), [("InputError", 2), ("RunError", 1)])
def test_what_fails_on_one_rank_alone_is_told_once(words: list[str], tmp_path: Path, error: str, status: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from mcld.cli.main import main\n"
        f"from mcld.errors import {error}\n"
        "from mcld.engine.loop import Loop\n"
        "def fail(*_): raise " + error + "('the file x.jpg is gone')\n"
        "if os.environ.get('LOCAL_RANK') == '1': Loop._set_learning_rate = fail\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), *words, "devices=2", f"run={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert [line for line in done.stderr.splitlines() if "[W" not in line] == ["mcld: the file x.jpg is gone"]


@pytest.mark.parametrize("victim", [0, 1])
def test_one_process_killed_is_one_line(words: list[str], tmp_path: Path, victim: int) -> None:
    run_directory = RunDirectory(tmp_path / "run")
    with (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "mcld", *words, "schedule.epochs=300", "devices=2", f"run={run_directory.path}"],
            stdout=subprocess.DEVNULL,
            stderr=err,
        )
    while not list_checkpoints(run_directory.checkpoints) and process.poll() is None:
        time.sleep(0.01)
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill([process.pid, child][victim], signal.SIGKILL)
    survivor = Path(f"/proc/{[child, process.pid][victim]}/stat")
    began = time.monotonic()
    while time.monotonic() - began < 20 and survivor.exists():
        if survivor.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.01)
    assert time.monotonic() - began < 5  # it took 0.3 and 1.1 s on an idle machine
    assert process.wait(timeout=20) == [-signal.SIGKILL, 1][victim]
    said = "mcld: another process of this run has ended; go on from what was saved last: mcld resume RUN\n"
    assert (tmp_path / "err").read_text() == said


def test_a_mistake_is_told_once(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mcld", *words, "student=resnet9", "devices=2", f"run={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("mcld: ") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
