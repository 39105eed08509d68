"""Random command lines for mcld, run in this process: no traceback, no hang, nothing written before a refusal.

On its own: ``python -m tests.cli.fuzz --lines 5000 --seed 1`` in the root of the repository.
"""

import argparse
import contextlib
import io
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from tests.cli.lines import DATA, TINY, Generator
from torch import nn

SECONDS = 20
"""More than this is a hang."""


@dataclass(frozen=True)
class Fault:
    """What a line should not have done."""

    number: int
    words: list[str]
    what: str


def make_place(folder: Path) -> None:
    """Small data, a run, a student of it, a suite and what is none of them, in the working directory."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        labels = np.arange(40) % 4
        images = rng.integers(0, 120, (40, 8, 8, 3))
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 2, :, label % 3] += 100
        np.savez(folder / f"{split}.npz", images=images.astype(np.uint8), labels=labels, names=np.array(list("abcd")))
    (folder / "file.txt").write_text("nothing\n")
    (folder / "photos").mkdir()
    suite = {
        "common": [*DATA, *TINY],
        "teacher": "T",
        "pairs": {"p": "student=resnet8"},
        "methods": {"kd": "method=kd"},
    }
    lines = [f"{key}: {value}" for key, value in {**suite, "seeds": [0], "test": ["data.val=val.npz"]}.items()]
    (folder / "suite.yaml").write_text("\n".join(lines).replace("'", '"') + "\n")
    for words in (
        ["train", *DATA, *TINY, "schedule.epochs=4", "model=resnet8", "run=T"],
        ["distill", *DATA, *TINY, "teacher=T", "student=resnet8", "student.options.width=2", "run=S"],
    ):
        status, _, error = run_line(words)
        assert status == 0, error


class _Hangs(Exception):  # noqa: N818 (not an error of the program's)
    pass


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """No network, an alarm, no compiler, no further processes, and training that ends after a step."""
    from lightning_fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

    from mcld.engine.loop import Loop
    from mcld.errors import RunError

    train = Loop.train

    def short(self: Loop) -> Any:
        if self.total > 4:
            self.stop.signal = signal.SIGTERM
        return train(self)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("no network here")

    def alone(*_: Any, **__: Any) -> Any:
        # Each would be this whole process once more, and the first to end would end this one with SIGKILL.
        raise RunError("no further processes here")

    def ring(*_: Any) -> Any:
        waited, worked = time.monotonic() - began[0], time.process_time() - began[1]
        if worked < SECONDS / 2 and waited < 6 * SECONDS:  # the machine may have other things to do
            signal.alarm(SECONDS // 2)
        else:
            raise _Hangs

    began = time.monotonic(), time.process_time()
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        with (
            mock.patch.object(Loop, "train", short),
            mock.patch.object(socket, "getaddrinfo", refuse),
            mock.patch.object(nn.Module, "compile", return_value=None),  # minutes
            mock.patch.object(_SubprocessScriptLauncher, "_call_children_scripts", alone),
        ):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_line(words: Sequence[str]) -> tuple[int, str, str]:
    """Run a command line: the exit status, what it printed, its errors."""
    from mcld.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(list(words))
        except SystemExit as exit:
            status = int(exit.code or 0)
    return status, out.getvalue(), err.getvalue()


def check_line(number: int, words: list[str]) -> Fault | None:
    """Run a line in the working directory; what is wrong with what it did."""
    before = _listing()
    try:
        with _surroundings():
            status, _, err = run_line(words)
    except _Hangs:
        return Fault(number, words, f"more than {SECONDS} s\n{traceback.format_exc()}")
    except BaseException:
        return Fault(number, words, traceback.format_exc())
    if status == 2:
        lines = err.splitlines()
        if not err.startswith("mcld: ") or len(lines) != 1 or len(err) > 3000 or "\x1b" in err or "\0" in err:
            return Fault(number, words, f"not one plain line: {err[:2000]!r}")
        if (after := _listing()) != before:
            return Fault(number, words, f"refused ({err.strip()[:300]}), but wrote {sorted(after ^ before)[:5]}")
    if "Traceback" in err:
        return Fault(number, words, err)
    return None


def _listing() -> set[tuple[str, int, int]]:
    found = set()
    for where, _, names in os.walk("."):
        found.add((where, 0, 0))
        for name in names:
            if name == ".lock":  # opened to look whether somebody holds it
                found.add((os.path.join(where, name), 0, 0))  # noqa: PTH118
                continue
            status = os.lstat(os.path.join(where, name))  # noqa: PTH118
            found.add((os.path.join(where, name), status.st_mtime_ns, status.st_size))  # noqa: PTH118
    return found


def fuzz(folder: Path, seed: int, *, lines: int, seconds: float, log: Path | None = None) -> tuple[int, list[Fault]]:
    """Run random lines in a folder until there were enough or the time is over; how many, and what went wrong."""
    os.environ["MCLD_CACHE"] = str(folder / "cache")
    place = folder / "a" / "place"
    place.mkdir(parents=True)
    os.chdir(place)
    make_place(place)
    faults: list[Fault] = []
    generate, deadline = Generator(seed), time.monotonic() + seconds
    for number in range(lines):
        if time.monotonic() > deadline:
            return number, faults
        words = generate()
        for made in [*Path().glob("out*"), *Path().glob("exported*")]:
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        if log is not None:
            log.write_text(f"{number} {words!r}\n")  # what it was when the process ends itself
        fault = check_line(number, words)
        if fault is not None:
            faults.append(fault)
            if log is not None:
                print(f"--- {number} {words!r}\n{fault.what}", flush=True)
    return lines, faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=36000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--last", type=Path, default=Path(tempfile.gettempdir()) / "mcld-fuzz-last", help="the line that runs"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done, found = fuzz(Path(folder), given.seed, lines=given.lines, seconds=given.seconds, log=given.last)
        os.chdir("/")
    print(f"{done} lines, {len(found)} faults")
    sys.exit(bool(found))
