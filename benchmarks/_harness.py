"""What the benchmarks share: sides timed in turn, ratios with their spread, peak memory, dated results."""

import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mcld.files import atomic_write_text
from mcld.runs.environment import describe_environment

RESULTS = Path(__file__).parent / "results"


CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""What time is: that of a clock on the wall, or what the CPU spent on this process, which others hardly change."""


def timed(action: Callable[[], object], device: torch.device | None = None, clock: str = "wall") -> float:
    """Seconds of one call, with the device's work, by one of ``CLOCKS``."""
    _wait(device)
    start = CLOCKS[clock]()
    action()
    _wait(device)
    return CLOCKS[clock]() - start


def in_turn(
    sides: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device | None = None,
    *,
    calls: int = 1,
    warm_up: int = 1,
    clock: str = "wall",
) -> dict[str, list[float]]:
    """Seconds per call of each side: A, B, A, B, ..., so that what else the machine does hits them alike.

    Args:
        sides: what to time, by name.
        repeats: figures for each side.
        device: whose work to wait for; None for the CPU.
        calls: in a row for one figure, for actions that are too short for the clock.
        warm_up: rounds that do not count.
        clock: one of ``CLOCKS``.
    """

    def several(action: Callable[[], object]) -> None:
        for _ in range(calls):
            action()

    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-warm_up, repeats):
        for name, action in sides.items():
            if calls > 1:  # what the side before left in the caches is not this one's to pay for
                several(action)
            measured = timed(lambda action=action: several(action), device, clock) / calls  # type: ignore[misc]
            if turn >= 0:
                seconds[name].append(measured)
    return seconds


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """value ÷ base of each turn."""
    return [value / other for value, other in zip(values, base, strict=True)]


def spread(values: Sequence[float], unit: str, scale: float = 1.0) -> str:
    """The median with the smallest and the largest, each times ``scale``, for printing."""
    low, middle, high = (scale * value for value in (min(values), statistics.median(values), max(values)))
    return f"{middle:9.2f} {unit}  ({low:.2f} to {high:.2f})"


def peak_memory(action: Callable[[], object], device: torch.device) -> int:
    """Bytes that a call takes at its peak above what is in use before it.

    On the CPU it is the process's resident memory, so it wants a process of its own (:func:`in_fresh_process`): memory
    that an earlier call gave back may still be resident. Linux only.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    # The peak of getrusage survives exec, so a child would start with that of its parent; this one can be reset.
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    action()
    return _resident("VmHWM") - before


def in_fresh_process(*words: str) -> Any:
    """Run this very script with other words in a process of its own; what its last line says, as JSON.

    Raises:
        subprocess.CalledProcessError: when it fails; its messages have been printed.
    """
    command = [sys.executable, sys.argv[0], *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def write_results(name: str, results: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write a dated JSON with hardware and versions into a folder; the path without its suffix, for a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{datetime.date.today()}-{name}"
    words = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    environment = {**describe_environment(), "command": words, "load": os.getloadavg()[0]}
    text = json.dumps({**results, "environment": environment}, indent=1) + "\n"
    atomic_write_text(stem.with_suffix(".json"), text)
    print(stem.with_suffix(".json"))
    return stem


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def _resident(what: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise LookupError(f"no {what} in /proc/self/status")
