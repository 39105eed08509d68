"""A dry run times the training loop itself."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcld.engine.loop import Loop

Mcld = Callable[..., tuple[int, str, str]]


def test_it_does_steps_of_the_real_loop_and_hardly_moves_the_weights(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[float] = []
    real = Loop._step

    def step(self: Loop, batch: Any, progress: float) -> Any:
        before = [parameter.detach().clone() for parameter in self.distiller.parameters()]
        out = real(self, batch, progress)
        pairs = zip(before, self.distiller.parameters(), strict=True)
        steps.append(max(float((new - old).abs().max()) for old, new in pairs))
        return out

    monkeypatch.setattr(Loop, "_step", step)
    words = ["distill", *arrays[:3], "data.batch_size=8", f"teacher={teacher}", "student=resnet8", "threads=1"]
    status, out, err = mcld(*words, "method=[mcld,kd]", "schedule.epochs=3", "--dry-run")
    assert (status, err) == (0, "")
    assert len(steps) == 8
    assert 0 < max(steps) < 1e-5
    assert re.search(r"loss terms at the first weights: ce 1\.\d+  mcld\.instance \d+\.\d+ .* kd\.kl \d", out)
    assert "3 epochs of 20 steps, batch 8, one_cycle schedule, lr 0.05" in out
    assert list(tmp_path.iterdir()) == []
