"""Runs whose candidate bank is the teacher's logits of the whole training set."""

import os
import shutil
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
from mcld.methods import MCLD
from mcld.runs import RunDirectory
from mcld.teacher import LiveTeacher

Mcld = Callable[..., tuple[int, str, str]]
WORDS = ["student=resnet8", "student.options.width=8", "threads=1", "schedule.epochs=3", "log_every=1"]
WHOLE = ["method=[mcld,kd]", "method.mcld.bank=-1"]


@pytest.fixture
def words(arrays: list[str], teacher: Path) -> list[str]:
    return [*arrays, f"teacher={teacher}", "data.padding=1", *WORDS, *WHOLE]


def same(one: Path, other: Path) -> bool:
    ours, theirs = load_file(one / "last.safetensors"), load_file(other / "last.safetensors")
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


def watch(monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[tuple[torch.Tensor, ...]]]:
    """The sizes of the batches that a teacher is run on, and what banks are filled with, from now on."""
    sizes, fills = list[int](), list[tuple[torch.Tensor, ...]]()
    run, fill = LiveTeacher.logits, MCLD.fill_bank

    def logits(self: LiveTeacher, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return run(self, images)

    def fill_bank(self: MCLD, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor | None = None) -> None:
        assert index is not None
        fills.append((logits, labels, index))
        fill(self, logits, labels, index)

    monkeypatch.setattr(LiveTeacher, "logits", logits)
    monkeypatch.setattr(MCLD, "fill_bank", fill_bank)
    return sizes, fills


def test_the_bank_is_read_from_the_store(
    mcld: Mcld, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = ["teacher.store=store", "teacher.store_precision=32"]
    teacher_words = [word for word in words if word not in (*WORDS, *WHOLE)]
    assert mcld("teacher-logits", *teacher_words, "threads=1", *stored)[0] == 0
    sizes, fills = watch(monkeypatch)
    outs = {}
    for name, more in (("full", stored), ("off", ["teacher.store=off"]), ("cold", [*stored, "teacher.store=empty"])):
        sizes.clear()
        status, outs[name], err = mcld("distill", *words, *more, f"run={name}")
        assert status == 0, err
        asked = {"full": 0, "off": 60 + 160 + 3 * 160}.get(name)  # validation, the bank, the steps
        assert sum(sizes) == asked or name == "cold"
    assert 60 + 160 + 2 * 160 < sum(sizes) <= 60 + 160 + 3 * 160
    assert "bank: the teacher's logits of all 160 training images, without augmentation" in outs["full"]
    assert same(tmp_path / "full", tmp_path / "off")
    assert same(tmp_path / "full", tmp_path / "cold")
    for logits, labels, index in fills:
        assert torch.equal(logits, fills[0][0])
        assert index.tolist() == list(range(160))
        assert labels.tolist() == [i % 4 for i in range(160)]
    state = load_checkpoint(tmp_path / "full" / "checkpoints")[0]
    assert state is not None
    assert state["method"]["methods.mcld.bank._extra_state"] == {}
    status, _, err = mcld("distill", *words, "method.mcld.bank=0", *stored, "run=none")
    assert status == 0, err
    assert not same(tmp_path / "full", tmp_path / "none")


@pytest.mark.parametrize("store", ["off", "store"])
def test_stopped_inside_an_epoch_it_ends_as_if_it_never_had_been(
    mcld: Mcld, words: list[str], tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the store has gone in the meantime."""
    words = ["distill", *words, f"teacher.store={store}"]
    assert mcld(*words, "run=whole")[0] == 0
    forward, calls = MCLD.forward, [0]

    def stopping(self: MCLD, *args: object, **more: object) -> object:
        calls[0] += 1
        if calls[0] == 8:  # of 5 in an epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(MCLD, "forward", stopping)
    status, out, _ = mcld(*words, "run=run")
    assert status == 128 + signal.SIGTERM
    assert "stopped in epoch 2 after step 3 of 5" in out
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    status, out, err = mcld("resume", "run")
    assert status == 0, err
    assert "bank: the teacher's logits of all 160 training images" in out
    assert same(tmp_path / "run", tmp_path / "whole")


def test_killed_it_ends_as_if_it_never_had_been(words: list[str], tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mcld", "distill", *words, "schedule.epochs=8", "data.batch_size=8"]
    done = subprocess.run([*words, "teacher.store=off", f"run={tmp_path / 'whole'}"], capture_output=True, check=True)
    assert b"bank: " in done.stdout
    run = RunDirectory(tmp_path / "run")
    given = [f"teacher.store={tmp_path / 'store'}", "teacher.store_precision=32", f"run={run.path}"]
    process = subprocess.Popen([*words, *given], stdout=subprocess.DEVNULL)
    while len(list_checkpoints(run.checkpoints)) < 2 and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    subprocess.run([sys.executable, "-m", "mcld", "resume", str(run.path)], capture_output=True, check=True)
    assert same(run.path, tmp_path / "whole")


def test_beside_a_feature_method_and_with_endless_views(mcld: Mcld, words: list[str]) -> None:
    """There is no store then: the teacher is asked once for the plain views."""
    for more in (["method=[mcld,fitnet]"], ["data.policy=trivial"]):
        status, out, err = mcld("distill", *words, *more, "schedule.epochs=1", "run=run", "--force")
        assert status == 0, err
        assert "the teacher runs live" in out
        assert "bank: the teacher's logits of all 160 training images" in out


def test_a_dry_run_says_that_its_bank_is_made_up(mcld: Mcld, words: list[str], tmp_path: Path) -> None:
    status, out, err = mcld("distill", *words, "--dry-run")
    assert status == 0, err
    assert "bank: random numbers in place of the teacher's logits of all 160 training images" in out
    assert not list(tmp_path.iterdir())


# A transformer, since batch normalisation makes two processes differ from one by design.
VIT = [
    "student=timm/vit_tiny_patch16_224",
    *(
        f"student.options.{option}"
        for option in ("img_size=8", "patch_size=2", "embed_dim=32", "depth=2", "num_heads=2")
    ),
]


def test_two_processes_have_the_whole_bank_each(arrays: list[str], teacher: Path, tmp_path: Path) -> None:
    words = ["distill", *arrays, f"teacher={teacher}", *VIT, *WHOLE, "schedule.epochs=1", "schedule.lr=0.005"]
    words.append("optimizer.clip=5")  # larger steps make more of rounding
    given = {"one": ["devices=1"], "two": ["devices=2"], "stored": ["devices=2", f"teacher.store={tmp_path / 'store'}"]}
    for name, more in given.items():
        store = [] if name == "stored" else ["teacher.store=off"]
        precision = ["teacher.store_precision=32", "threads=1", f"run={tmp_path / name}"]
        command = [sys.executable, "-m", "mcld", *words, *store, *more, *precision]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("bank: the teacher's logits of all 160 training images") == 1
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for key in one:  # rounding grows with the learning rate: here to 1e-7; a gradient wrong by 1% would be 1e-4
        torch.testing.assert_close(two[key], one[key], atol=2e-6, rtol=1e-5)
    for row, other in zip(*(RunDirectory(tmp_path / name).read_metrics() for name in ("one", "two")), strict=True):
        for name in ("mcld.instance", "mcld.sample", "mcld.category"):
            assert other[name] == pytest.approx(row[name], rel=1e-4)
    assert same(tmp_path / "stored", tmp_path / "two")
