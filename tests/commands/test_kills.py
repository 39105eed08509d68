"""Runs of nine kinds are killed at random moments, and must end with the bits of one that never was.

The seeds are fixed; the moments depend on the machine too, as they are shares of how long the whole run took on it.
On demand: ``pytest -m slow -rA tests/commands/test_kills.py``, about 25 minutes on two cores; it says how many kills
each kind had. One kind: ``-k "bank"``.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mcld.runs import RunDirectory

KILLS = 7
"""Of each kind: 60 in all, since compiling takes long to start and gets 4."""
STUDENT = ["student=resnet8", "student.options.width=8"]
KINDS: dict[str, list[str]] = {
    "cold store": [*STUDENT, "method=[mcld,kd]", "teacher.store=STORE"],
    "warm store": [*STUDENT, "method=kd", "teacher.store=STORE"],
    "crd": [*STUDENT, "method=crd"],
    "mlkd": [*STUDENT, "method=mlkd", "data.second_policy=none", "teacher.store=STORE"],
    "bank": [*STUDENT, "method=[mcld,kd]", "method.mcld.bank=64", "teacher.store=off"],
    "arrays": ["model=resnet8", "optimizer.clip=5", "label_smoothing=0.1"],
    "folder with workers": ["model=resnet8", "data.workers=2", "data.cache=off"],
    "compile": ["model=resnet8", "compile=true"],
    "two ranks": ["model=resnet8", "devices=2"],
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in (("train", 160), ("val", 40)):
        for index in range(count):
            image = rng.integers(0, 120, (24, 24, 3))
            image[:, 6 * (index % 4) : 6 * (index % 4) + 6] += 100
            place = folder / split / "abcd"[index % 4]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.astype(np.uint8)).save(place / f"{index}.png")
    return folder


class Killer:
    """Starts a run, kills it at random moments, and goes on with it.

    Args:
        words: of the command, without ``run``.
        run: the run directory.
        seconds: that the whole run took, start included.
        seed: of the moments.
    """

    def __init__(self, words: list[str], run: Path, seconds: float, seed: str) -> None:
        self.words, self.run, self.seconds = words, run, seconds
        self.rng = random.Random(seed)

    def go_on(self) -> subprocess.Popen[str]:
        words = ["resume", str(self.run)] if RunDirectory.is_run(self.run) else [*self.words, f"run={self.run}"]
        return subprocess.Popen(
            [sys.executable, "-m", "mcld", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def kill(self, times: int) -> int:
        """Kill it up to so often, each time after at most as long as the whole run took; how often, at its end."""
        killed = 0
        while True:
            process = self.go_on()
            if killed < times:
                try:
                    process.communicate(timeout=self.rng.uniform(0.1, 0.8) * self.seconds)
                except subprocess.TimeoutExpired:
                    ranks = children(process.pid) if "devices=2" in self.words else []
                    os.kill(self.rng.choice([process.pid, *ranks]), signal.SIGKILL)
                    killed += 1
            out, _ = process.communicate(timeout=600)
            assert process.returncode in (0, 1, -signal.SIGKILL), out
            assert "Traceback" not in out
            if process.returncode == 0 and (self.run / "summary.json").is_file():
                return killed


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def rows(run: Path) -> list[dict[str, str]]:
    measured = ("seconds", "images_per_second")
    with RunDirectory(run).metrics.open() as file:
        return [{key: value for key, value in row.items() if key not in measured} for row in csv.DictReader(file)]


def assert_same(run: Path, whole: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(run / name), load_file(whole / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert rows(run) == rows(whole)
    assert not list(run.rglob("*.tmp"))
    assert not (run / ".new").exists()


def words_of(kind: str, arrays: list[str], photos: Path, teacher: Path, store: Path, epochs: int) -> list[str]:
    data = arrays if kind != "folder with workers" else ["data=folder", f"data.path={photos}", "data.image_size=24"]
    given = [word.replace("STORE", str(store)) for word in KINDS[kind]]
    common = ["data.batch_size=16", f"schedule.epochs={epochs}", "threads=1", "seed=3", "checkpoints.minutes=0.01"]
    taught = any(word.startswith("student=") for word in given)
    return [*(["distill", f"teacher={teacher}"] if taught else ["train"]), *data, *given, *common]


def killed_and_whole(kind: str, words: list[str], fill: list[str] | None, tmp_path: Path, kills: int) -> int:
    whole = tmp_path / "whole"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "mcld", *[word.replace("-store", "-store0") for word in words], f"run={whole}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = time.monotonic() - began
    if fill is not None:
        subprocess.run([sys.executable, "-m", "mcld", *fill], check=True, capture_output=True)
    killed = 0
    for attempt in range(10):  # a run may be faster than the whole one was, and end before it is killed
        killer = Killer(words, tmp_path / f"run{attempt}", seconds, f"{kind} {attempt}")
        killed += killer.kill(kills - killed)
        assert_same(killer.run, whole)
        if killed == kills:
            break
    return killed


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_again_and_again_a_run_ends_as_if_it_never_had_been(
    kind: str, arrays: list[str], photos: Path, teacher: Path, tmp_path: Path
) -> None:
    store = tmp_path / "the-store"
    words = words_of(kind, arrays, photos, teacher, store, epochs=60)
    fill = None
    if kind == "warm store":
        fill = ["teacher-logits", *arrays, f"teacher={teacher}", f"teacher.store={store}", "threads=1"]
    kills = 4 if kind == "compile" else KILLS
    killed = killed_and_whole(kind, words, fill, tmp_path, kills)
    print(f"{kind}: {killed} SIGKILLs, bit-identical")  # shown by pytest -rA
    assert killed == kills


def test_killed_twice(arrays: list[str], photos: Path, teacher: Path, tmp_path: Path) -> None:
    """The quick one of these."""
    words = words_of("arrays", arrays, photos, teacher, tmp_path / "the-store", epochs=10)
    assert killed_and_whole("arrays", words, None, tmp_path, 2) == 2
