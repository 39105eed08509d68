import builtins
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcld.training.stop import StopRequest

Mcld = Callable[..., tuple[int, str, str]]


def test_the_same_request_may_come_twice_and_a_second_one_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher passes on what the whole group was sent."""
    now = [0.0]
    monkeypatch.setattr("mcld.training.stop.time.monotonic", lambda: now[0])
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
    assert "no curves for TensorBoard, which cannot be imported (No module named 'tensorboard')" in out
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert (tmp_path / "run" / "summary.json").is_file()
