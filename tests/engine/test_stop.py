import builtins
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mcld.engine.stop import StopRequest
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]


def test_the_same_request_may_come_twice_and_a_second_one_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher passes on what the whole group was sent."""
    now = [0.0]
    monkeypatch.setattr("mcld.engine.stop.time.monotonic", lambda: now[0])
    with StopRequest() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        now[0] = 0.4
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGTERM
        now[0] = 0.6
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_without_tensorboard_a_run_is_the_same_without_its_curves(
    mcld: Mcld, arrays: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name.startswith(("tensorboard", "torch.utils.tensorboard")):
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return imported(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    words = ["train", *arrays, "model=resnet8", "model.options.width=4", "schedule.epochs=1", "threads=1", "run=run"]
    status, out, err = mcld(*words)
    assert status == 0, err
    assert "the logger tensorboard failed and is left out from now on (ModuleNotFoundError: " in out
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert (tmp_path / "run" / "summary.json").is_file()


def test_a_run_with_workers_saves_when_its_group_is_told_to_end_and_goes_on_at_once_when_killed(
    photos: Path, tmp_path: Path
) -> None:
    """As ``timeout``, schedulers and Ctrl-C tell it; and a worker that is left holds nothing."""
    run = RunDirectory(tmp_path / "run")
    data = ["data=folder", f"data.path={photos}", "data.image_size=24", "data.batch_size=4", "data.workers=2"]
    words = [
        "train",
        *data,
        "data.cache=off",
        "model=resnet8",
        "model.options.width=4",
        "schedule.epochs=4",
        "threads=1",
    ]

    def start(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mcld", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait(process: subprocess.Popen[str], epochs: int) -> None:
        while not run.metrics.is_file() or len(run.read_metrics()) < epochs:
            assert process.poll() is None
            time.sleep(0.005)

    whole = start(*words, f"run={tmp_path / 'whole'}")
    process = start(*words, f"run={run.path}")
    wait(process, 1)
    os.killpg(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, out
    assert "everything is saved; go on with: mcld resume" in out
    assert "Traceback" not in out

    process = start("resume", str(run.path))
    wait(process, 2)
    process.kill()  # and not its workers
    process.wait()
    process.communicate()
    process = start("resume", str(run.path))
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert whole.wait(timeout=120) == 0
    ours, theirs = (load_file(path / "last.safetensors") for path in (run.path, tmp_path / "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_few_file_descriptors_are_one_line_and_nothing_is_locked(mcld: Mcld, photos: Path) -> None:
    """As after ``ulimit -n 20``."""
    resource = pytest.importorskip("resource")
    data = ["data=folder", f"data.path={photos}", "data.image_size=24", "data.batch_size=8", "data.cache=off"]
    words = [*data, "model=resnet8", "model.options.width=4", "schedule.epochs=1", "threads=1", "run=run"]
    done = subprocess.run(
        [sys.executable, "-m", "mcld", "train", *words, "data.workers=2"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20)),
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "mcld: too many open files; raise the limit (ulimit -n 1024), or read without workers: data.workers=0"
    ]
    status, out, err = mcld("resume", "run")
    assert status == 0, err
    assert "everything is in run" in out


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 8)):
        for index in range(count):
            place = tmp_path / "photos" / split / "ab"[index % 2]
            place.mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 120, (24, 24, 3)) + 100 * (index % 2)
            Image.fromarray(image.astype(np.uint8)).save(place / f"{index}.png")
    return tmp_path / "photos"
