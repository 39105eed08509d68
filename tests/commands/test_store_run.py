"""Runs with the teacher's logits stored end with the same student as runs that ask the teacher."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcld.engine.checkpoint import list_checkpoints
from mcld.methods import MCLD
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]
SMALL = ["student=resnet8", "student.options.width=4", "threads=1", "schedule.epochs=2"]


@pytest.fixture
def words(arrays: list[str], teacher: Path) -> list[str]:
    return ["distill", *arrays, f"teacher={teacher}", *SMALL]


def same(one: Path, other: Path) -> bool:
    ours, theirs = load_file(one / "last.safetensors"), load_file(other / "last.safetensors")
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


def line(out: str, start: str) -> str:
    return next(line for line in out.splitlines() if line.startswith(start))


@pytest.mark.parametrize("method", ["[mcld,kd]", "mlkd data.second_policy=none"])
def test_the_student_is_the_same_live_and_with_a_cold_and_a_warm_store(
    mcld: Mcld, words: list[str], tmp_path: Path, method: str
) -> None:
    """With 32 bits to the last bit; ``mlkd`` shows two views of each image."""
    words = [*words, *f"method={method}".split(), "data.padding=1"]
    stored = ["teacher.store=store", "teacher.store_precision=32"]
    outs = {}
    for name, more in (("off", ["teacher.store=off"]), ("cold", stored), ("warm", stored)):
        status, outs[name], err = mcld(*words, *more, f"run={name}")
        assert status == 0, err
    assert same(tmp_path / "off", tmp_path / "cold")
    assert same(tmp_path / "off", tmp_path / "warm")
    assert "teacher's logits" not in outs["off"]
    assert "fp32, 18 views of each image: at most 57.6 kB, 57.6 kB more than now; the disk has" in outs["cold"]
    assert "teacher's logits: 100.0% read from the store" in outs["warm"]
    summaries = {name: RunDirectory(name).read_json(RunDirectory(name).summary) for name in outs}
    assert summaries["off"]["teacher"]["stored"] is None
    assert summaries["warm"]["teacher"]["stored"] == {"folder": "store/training", "precision": "fp32"}
    assert line(outs["off"], "teacher ") == line(outs["warm"], "teacher ")
    for run in ("cold", "warm"):
        assert summaries[run]["last"] == summaries["off"]["last"]


def test_other_students_and_methods_find_the_store_by_themselves(mcld: Mcld, words: list[str]) -> None:
    outs = []
    for method in ("kd", "mcld"):  # the same seed shows the same views
        status, out, err = mcld(*words, f"method={method}", f"student.options.width={len(method)}", f"run={method}")
        assert status == 0, err
        outs.append(out)
    assert str(Path(os.environ["MCLD_CACHE"]) / "logits" / "arrays-training-resnet8-") in outs[0]
    assert "teacher's logits: 100.0% read from the store" in outs[1]


def test_why_the_teacher_runs_live_is_said(mcld: Mcld, words: list[str], photos: list[str]) -> None:
    status, out, err = mcld(*words, "method=fitnet", "run=a")
    assert status == 0, err
    assert "the teacher runs live: method=fitnet reads the teacher's feature maps, and a store holds logits only" in out
    status, _, err = mcld(*words, "method=fitnet", "teacher.store=here", "run=b")
    assert status == 2
    assert err.startswith("mcld: teacher.store=here: method=fitnet reads the teacher's feature maps, and a store")
    assert not Path("here").exists()
    status, out, err = mcld("distill", *photos, "run=c")
    assert status == 0, err
    assert "the views of data=folder are endless; teacher.views=8 would store 8 views of each image" in out
    status, _, err = mcld("distill", *photos, "teacher.store=here", "run=d")
    assert status == 2
    assert "teacher.store=here: the views of data=folder are endless; teacher.views=8" in err
    status, out, err = mcld("distill", *photos, "teacher.store=here", "teacher.views=2", "run=e")
    assert status == 0, err
    assert "2 views per image (approximation)" in line(out, "data folder")
    assert "3 views of each image" in line(out, "teacher's logits: stored")
    assert "2 views per image (approximation)" in RunDirectory("e").read_json(Path("e/summary.json"))["views"]


def test_a_pool_of_views_is_called_an_approximation_wherever_it_shows(mcld: Mcld, words: list[str]) -> None:
    for more in (["--dry-run"], ["run=a"]):
        status, out, err = mcld(*words, "method=kd", "teacher.views=2", "data.padding=1", *more)
        assert status == 0, err
        assert "horizontal flip, 2 views per image (approximation)" in line(out, "data arrays")
        assert "3 views of each image (an approximation of all): at most" in line(out, "teacher's logits: stored")
    assert Path("a/summary.json").read_text().count("2 views per image (approximation)") == 1
    status, out, _ = mcld(*words, "method=kd", "data.padding=1", "--dry-run")
    assert "18 views of each image: at most" in line(out, "teacher's logits: stored")
    assert "approximation" not in out


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """The words for a folder of 24 small photos, with a teacher that knows nothing."""
    from PIL import Image

    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(6):
                noise = np.random.default_rng(i).integers(0, 256, (36, 36, 3), dtype=np.uint8)
                Image.fromarray(noise).save(folder / f"{i}.png")
    words = ["data=folder", f"data.path={tmp_path / 'photos'}", "data.image_size=32", "data.batch_size=4"]
    return [*words, "data.workers=0", "teacher=resnet8", "teacher.allow_near_chance=true", *SMALL]


def test_a_store_of_something_else_is_refused_before_anything_is_trained(mcld: Mcld, words: list[str]) -> None:
    words = [*words, "method=kd", "schedule.epochs=1", "teacher.store=store"]
    assert mcld(*words, "run=a")[0] == 0
    for word, said in (
        ("teacher.store_precision=32", "storage 'fp16' instead of 'fp32'"),
        ("teacher.views=2", "views_per_image 2 instead of 3"),
        ("teacher.mean=[0.4,0.4,0.4]", "instead of [0.4, 0.4, 0.4]"),
        ("precision=bf16", "precision '32' instead of 'bf16'"),
    ):
        status, _, err = mcld(*words, word, "run=b")
        assert (status, err.count("\n")) == (2, 1)
        assert "store store/" in err
        assert said in err
        assert not Path("b").exists()


def test_the_store_of_another_teacher_or_of_other_images_is_refused(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    """By their content: the architecture, the names and the numbers are the same."""
    assert mcld("train", *arrays, "model=resnet8", "schedule.epochs=2", "threads=1", "seed=5", "run=other")[0] == 0
    content = dict(np.load(arrays[1].removeprefix("data.train=")))
    content["images"][7, 3, 3, 0] ^= 1
    np.savez(tmp_path / "changed.npz", **content)
    words = [*arrays, f"teacher={teacher}", "threads=1", "teacher.store=store"]
    assert mcld("teacher-logits", *words)[0] == 0
    before = {file: file.read_bytes() for file in Path("store").rglob("*") if file.is_file()}
    student = ["distill", *SMALL, "method=kd", "teacher.allow_near_chance=true", "run=a"]
    for command in (["teacher-logits"], ["teacher-logits", "--check"], student):
        for word, where, said in (
            ("teacher=other", "store/", "weights "),
            (f"data.train={tmp_path / 'changed.npz'}", "store/training", "fingerprint "),
        ):
            status, _, err = mcld(*command, *(w for w in words if w.split("=")[0] != word.split("=")[0]), word)
            assert (status, err.count("\n")) == (2, 1)
            assert f"store {where}" in err
            assert f"holds other logits: {said}" in err
            assert not Path("a").exists()
    assert {file: file.read_bytes() for file in Path("store").rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("teacher.store_precision=8", "teacher.store_precision=8; expected 16 or 32"),
        ("teacher.views=0", "teacher.views=0; expected at least 1"),
        ("teacher.views=3", "teacher.views=3: pool is 3; expected at most the 2 views"),
        ("teacher.store=", "teacher.store=: there is nothing after the equals sign"),
    ],
)
def test_settings_that_cannot_be_right(mcld: Mcld, words: list[str], word: str, said: str) -> None:
    status, _, err = mcld(*words, word, "run=a")
    assert status == 2
    assert said in err


def test_a_disk_without_room(mcld: Mcld, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1200))
    words = [*words, "method=kd", "schedule.epochs=1"]
    status, _, err = mcld(*words, "teacher.store=here", "run=a")
    assert status == 2
    assert (
        "the validation logits can take" in err or "the training logits can take 3.84 kB more in here/training" in err
    )
    assert "and the disk has 1.2 kB left; expected a folder on another disk" in err
    assert not Path("here").exists()
    monkeypatch.setenv("MCLD_CACHE", "cache")
    status, out, err = mcld(*words, "run=b")
    assert status == 0, err
    assert "the teacher runs live: the training logits can take 3.84 kB more" in out
    assert not list(Path("cache").glob("logits/arrays-training-*"))


@pytest.mark.parametrize("reach", ["no room", "not writable", "damaged", "no room at first"])
def test_a_store_out_of_reach_changes_no_weights(
    mcld: Mcld, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reach: str
) -> None:
    """With 16 bits: what is computed live is rounded as what is stored. A damaged store of our own is made anew."""
    import shutil

    words = [*words, "method=[mcld,kd]", "data.padding=1", "schedule.epochs=2", "schedule.lr=0.1"]
    monkeypatch.setenv("MCLD_CACHE", str(tmp_path / "whole-cache"))
    assert mcld(*words, "run=whole")[0] == 0
    assert mcld(*words, "teacher.store=off", "run=off")[0] == 0
    assert not same(tmp_path / "whole", tmp_path / "off")  # so that rounding shows
    monkeypatch.setenv("MCLD_CACHE", str(tmp_path / "cache"))
    usage = shutil.disk_usage(".")
    full = lambda _: usage._replace(free=1200)  # noqa: E731
    if reach == "no room at first":
        monkeypatch.setattr(shutil, "disk_usage", full)
    forward, calls = MCLD.forward, [0]

    def stopping(self: MCLD, *args: object, **more: object) -> object:
        calls[0] += 1
        if calls[0] == 7:  # of 5 in an epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(MCLD, "forward", stopping)
    assert mcld(*words, "run=run")[0] == 128 + signal.SIGTERM
    if reach == "no room":
        monkeypatch.setattr(shutil, "disk_usage", full)
        shutil.rmtree(tmp_path / "cache")
    elif reach == "not writable":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("MCLD_CACHE", str(tmp_path / "file"))
    elif reach == "damaged":
        for store in (tmp_path / "cache" / "logits").iterdir():
            (store / "header.json").write_text("{")
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    status, out, err = mcld("resume", "run")
    assert status == 0, err
    said = {"no room": "the teacher runs live", "not writable": "the teacher runs live", "damaged": "it was made anew"}
    assert said.get(reach, "stored in") in out
    assert same(tmp_path / "run", tmp_path / "whole")
    if reach == "damaged":
        assert "made anew" not in mcld("distill", *words[1:], "run=again")[1]


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mcld", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(*words: str) -> str:
    process = start(*words)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


LONG = ["method=[mcld,kd]", "schedule.epochs=6", "data.batch_size=8", "data.padding=1", "teacher.store_precision=32"]


@pytest.mark.slow
def test_killed_while_the_store_is_filled_a_run_ends_as_if_it_never_had_been(tmp_path: Path, words: list[str]) -> None:
    words = [*words, *LONG]
    finish(*words, f"teacher.store={tmp_path / 'one'}", f"run={tmp_path / 'whole'}")
    run = RunDirectory(tmp_path / "run")
    process = start(*words, f"teacher.store={tmp_path / 'two'}", f"run={run.path}")
    while len(list_checkpoints(run.checkpoints)) < 2 and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    out = finish("resume", str(run.path))
    assert "going on with epoch" in out
    assert same(run.path, tmp_path / "whole")
    assert "damaged" not in out


@pytest.mark.slow
def test_two_processes_of_one_run_and_two_runs_at_once_share_a_store(tmp_path: Path, words: list[str]) -> None:
    """Batch normalisation sees half the batch on each of two processes, so those are compared with each other."""
    words = [*words, *LONG, "data.batch_size=32", "schedule.epochs=3"]
    store = f"teacher.store={tmp_path / 'store'}"
    finish(*words, "teacher.store=off", "devices=2", f"run={tmp_path / 'off'}")
    one, two = (start(*words, store, f"seed={seed}", f"run={tmp_path / str(seed)}") for seed in (1, 2))
    finish(*words, store, "devices=2", f"run={tmp_path / 'ranks'}")
    for process in (one, two):
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
        assert "damaged" not in out
    assert same(tmp_path / "ranks", tmp_path / "off")
    finish(*words, "teacher.store=off", "seed=2", f"run={tmp_path / 'alone'}")
    assert same(tmp_path / "2", tmp_path / "alone")
