"""Odd folders in whole runs: what they say, on the terminal, in the log and in the summary."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

Mcld = Callable[..., tuple[int, str, str]]
FEW = ("model=resnet8", "schedule.epochs=1", "data.image_size=8", "data.batch_size=8", "data.workers=0", "threads=1")


def test_odd_names_and_skipped_images(photos: Path, mcld: Mcld) -> None:
    for split in ("train", "val"):
        os.rename(os.fsencode(photos / split / "cat"), os.fsencode(photos / split) + b"/caf\xe9")  # noqa: PTH104
        (photos / split / "dog").rename(photos / split / "\x1b[31m:cat:\n[b]")
    victim = Path(os.fsdecode(os.fsencode(photos / "train") + b"/caf\xe9/03.jpg"))
    victim.write_bytes(b"no image")
    (victim.parent / "\x1b]0;title\x07.txt").write_text("")
    status, out, err = mcld("train", "data=folder", f"data.path={photos}", *FEW, "run=r")
    assert (status, err) == (0, "")
    skipped = r"train: skipped 1 of 24 images, which cannot be read: caf\xe9/03.jpg (not an image)"
    left_out = r"left out 1 file that is no image mcld reads (1 .txt), such as caf\xe9/\x1b]0;title\x07.txt"
    notes = json.loads(Path("r/summary.json").read_text("utf-8"))["notes"]
    for place in (out, Path("r/log.txt").read_text("utf-8"), "\n".join(notes)):
        assert skipped in place
        assert left_out in place
        assert "\x1b" not in place
    assert json.loads(Path("r/model.json").read_text("utf-8"))["classes"] == ["\x1b[31m:cat:\n[b]", "caf\\xe9"]
    status, out, err = mcld("evaluate", "r")
    assert (status, err) == (0, "")
    assert skipped in out
    status, out, _ = mcld("train", "data=folder", f"data.path={photos}", *FEW, "--dry-run")
    assert status == 0
    assert r"\x1b[31m:cat:\n[b]" in out
    assert "\x1b" not in out


def test_one_class_is_refused_before_training(photos: Path, mcld: Mcld) -> None:
    for split in ("train", "val"):
        shutil.rmtree(photos / split / "dog")
    words = (f"data.path={photos}", "schedule.epochs=1", "run=r")
    for command in (("train", "model=resnet8"), ("distill", "teacher=resnet8", "student=resnet8", "method=kd")):
        status, out, err = mcld(*command, "data=folder", *words)
        assert (status, out) == (2, "")
        assert err == "mcld: data folder has one class, 'cat'; expected at least two to tell apart\n"
    assert not Path("r").exists()


def test_a_folder_level_too_many_is_refused(photos: Path, mcld: Mcld) -> None:
    for split in ("train", "val"):
        (photos / split).rename(photos / "images")
        (photos / split).mkdir()
        (photos / "images").rename(photos / split / "images")
    status, _, err = mcld("train", "data=folder", f"data.path={photos}", *FEW, "run=r")
    assert status == 2
    assert "holds one folder, 'images', and the images lie in its sub-folders ('cat', 'dog')" in err
    assert not Path("r").exists()


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("data.augment=2", "expected true or false"),
        ("data.batch_size=1000000000", "expected 1 to 1,000,000"),
        ("data.workers=10000", "expected 0 to 256"),
        ("data.workers=-1", "expected 0 to 256"),
    ],
)
def test_numbers_without_a_meaning(mcld: Mcld, word: str, right: str) -> None:
    status, _, err = mcld("train", "data=digits", "model=resnet8", "run=r", word)
    assert (status, right in err, err.count("\n")) == (2, True, 1)
    assert not Path("r").exists()


def test_more_threads_than_cores_are_said(mcld: Mcld) -> None:
    cores = os.cpu_count() or 1
    words = ["train", "data=digits", "model=resnet8", "--dry-run"]
    assert "that can be many times slower" not in mcld(*words, "threads=1")[1]
    threads = torch.get_num_threads()
    try:
        status, out, err = mcld(*words, f"threads={cores + 1}")
    finally:
        torch.set_num_threads(threads)
    assert status == 0, err
    assert f"warning: threads={cores + 1} on {cores} cores; that can be many times slower" in out


def test_a_batch_of_all_images_is_said(mcld: Mcld) -> None:
    status, out, _ = mcld("train", "data=digits", "model=resnet8", "data.batch_size=1400", "--dry-run")
    assert status == 0
    assert "batch_size is 1400 and there are 1347 training images: one step an epoch" in out
