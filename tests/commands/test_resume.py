"""Runs are killed for real, and must end as if they never had been."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mcld.engine.checkpoint import list_checkpoints, load_checkpoint
from mcld.runs import RunDirectory

EPOCHS = 10
WORDS = [
    "student=resnet8",
    "student.options.width=8",
    "method=[mcld,kd]",
    "method.mcld.bank=64",
    f"schedule.epochs={EPOCHS}",
    "schedule.warmup=0.1",
    "optimizer.clip=5",
    "label_smoothing=0.1",
    "seed=3",
    "threads=1",
    "data.batch_size=8",
    "log_every=1",
]


def mcld(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mcld", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=300)
    return process.returncode, out


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition() and process.poll() is None:
        time.sleep(0.0005)


@pytest.fixture(scope="module")
def words(arrays: list[str], teacher: Path) -> list[str]:
    return [*arrays, f"teacher={teacher}", *WORDS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> RunDirectory:
    """The run that is never interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    status, out = finish(mcld("distill", *words, f"run={run}"))
    assert status == 0, out
    return RunDirectory(run)


def assert_same(run: RunDirectory, whole: RunDirectory) -> None:
    for which in ("last", "best"):
        ours, theirs = load_file(run.weights(which)), load_file(whole.weights(which))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    ours_rows, theirs_rows = (list(csv.DictReader(r.metrics.open())) for r in (run, whole))
    measured = ("seconds", "images_per_second")
    assert [{k: v for k, v in row.items() if k not in measured} for row in ours_rows] == [
        {k: v for k, v in row.items() if k not in measured} for row in theirs_rows
    ]
    assert len(ours_rows) == EPOCHS
    ours_state, theirs_state = (load_checkpoint(r.checkpoints)[0] for r in (run, whole))
    assert ours_state is not None
    assert theirs_state is not None
    bank = ours_state["method"]["methods.mcld.bank._extra_state"]
    assert torch.equal(bank["logits"], theirs_state["method"]["methods.mcld.bank._extra_state"]["logits"])
    assert torch.equal(ours_state["ranks"][0]["random"]["torch"], theirs_state["ranks"][0]["random"]["torch"])
    ours_summary, theirs_summary = run.read_json(run.summary), whole.read_json(whole.summary)
    for key in ("last", "best", "teacher", "network", "epochs"):
        assert ours_summary[key] == theirs_summary[key]


def test_killed_at_random_moments_and_while_a_checkpoint_is_written(
    tmp_path: Path, words: list[str], whole: RunDirectory
) -> None:
    run = RunDirectory(tmp_path / "run")
    rng = random.Random()
    process = mcld("distill", *words, f"run={run.path}")
    wait_for(lambda: list_checkpoints(run.checkpoints), process)
    time.sleep(rng.uniform(0, 0.2))  # somewhere inside an epoch
    process.kill()
    process.communicate()

    process = mcld("resume", str(run.path))
    before = {path.name for path in run.checkpoints.iterdir()}
    wait_for(lambda: any(".tmp" in p.name and p.name not in before for p in run.checkpoints.iterdir()), process)
    process.kill()  # while a checkpoint was being written
    process.communicate()

    process = mcld("resume", str(run.path))
    newest = list_checkpoints(run.checkpoints)[0]
    wait_for(lambda: list_checkpoints(run.checkpoints)[0] != newest, process)
    time.sleep(rng.uniform(0, 0.3))
    process.kill()
    process.communicate()

    status, out = finish(mcld("resume", str(run.path)))
    assert status == 0, out
    assert "going on with epoch" in out or "training was finished" in out
    assert_same(run, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_inside_an_epoch(
    tmp_path: Path, words: list[str], whole: RunDirectory, number: signal.Signals
) -> None:
    run = RunDirectory(tmp_path / "run")
    process = mcld("distill", *words, f"run={run.path}")
    wait_for(lambda: run.log.is_file() and f"1/{EPOCHS}  top-1" in run.log.read_text(), process)
    time.sleep(0.02)  # it is beyond the end of that epoch
    process.send_signal(number)
    status, out = finish(process)
    assert status == 128 + number
    assert f"everything is saved; go on with: mcld resume {run.path}" in out
    assert "Traceback" not in out
    assert "-step0000000-" not in list_checkpoints(run.checkpoints)[0].name  # it was inside an epoch
    if number == signal.SIGINT:
        status, out = finish(mcld("resume", str(run.path)))
        assert status == 0, out
        assert_same(run, whole)


def test_a_damaged_checkpoint_costs_one_epoch_not_the_run(
    tmp_path: Path, words: list[str], whole: RunDirectory
) -> None:
    run = RunDirectory(tmp_path / "run")
    process = mcld("distill", *words, f"run={run.path}")
    wait_for(lambda: len(list_checkpoints(run.checkpoints)) == 2, process)
    process.kill()
    process.communicate()
    newest = list_checkpoints(run.checkpoints)[0]
    data = bytearray(newest.read_bytes())
    data[len(data) // 3] ^= 4
    newest.write_bytes(data)
    status, out = finish(mcld("resume", str(run.path)))
    assert status == 0, out
    assert f"checkpoint {newest.name} is damaged" in out
    assert_same(run, whole)
    for path in list_checkpoints(run.checkpoints):
        os.truncate(path, 100)
    status, out = finish(mcld("resume", str(run.path)))
    assert status == 2
    assert "none is left to go on from" in out
    assert "Traceback" not in out
