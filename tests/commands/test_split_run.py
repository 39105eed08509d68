"""A folder without a split: the run keeps the one that was made, and it holds for what comes after."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Mcld = Callable[..., tuple[int, str, str]]
TRAIN = ("schedule.epochs=1", "data.batch_size=16", "data.workers=0", "threads=1", "report=false")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for c, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(16):
            pixels = np.random.default_rng(100 * c + i).integers(0, 100, (10, 10, 3), dtype=np.uint8)
            pixels[..., c] += 150
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
    return root


def inputs(run: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((run / "environment.json").read_text())["inputs"]
    return found


def test_the_split_of_a_run_holds(photos: Path, mcld: Mcld, tmp_path: Path) -> None:
    data = ["data=folder", f"data.path={photos}", "data.val=0.25"]
    status, out, err = mcld("train", *data, "model=resnet8", *TRAIN, "schedule.epochs=2", f"run={tmp_path / 'a'}")
    assert status == 0, err
    assert "8 of 32 images are held out for validation (data.val=0.25)" in out
    table = (tmp_path / "a" / "split.csv").read_text()
    assert table.count(",val") == 8
    assert table.count(",train") == 24
    for c, name in enumerate(("cat", "dog")):  # with these the choice by content alone would be another
        for i in range(40):
            pixels = np.random.default_rng(900 + 50 * c + i).integers(0, 255, (10, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(photos / name / f"new{i:02}.png")
    status, out, err = mcld("evaluate", str(tmp_path / "a"))
    assert status == 0, err
    top1 = re.findall(r"top-1 ([\d.]+)%.* on 8 images", out)
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert [float(value) for value in top1] == [pytest.approx(100 * summary["last"]["top1"], abs=0.01)]
    status, out, err = mcld("resume", str(tmp_path / "a"))
    assert status == 0, err
    status, out, err = mcld(
        *("distill", *data, f"teacher={tmp_path / 'a'}", "student=resnet8", "method=kd", *TRAIN),
        *(f"run={tmp_path / 'b'}", "teacher.allow_near_chance=true"),
    )
    assert status == 0, err
    assert f"teacher {tmp_path / 'a'} was trained on a part of these images: its split is used, not data.val" in out
    assert inputs(tmp_path / "b")["validation data"] == inputs(tmp_path / "a")["validation data"]
    assert (tmp_path / "b" / "split.csv").read_text() == table
    shutil.rmtree(tmp_path / "a")  # the student's run has its own
    status, out, err = mcld("evaluate", str(tmp_path / "b"))
    assert status == 0, err
    assert "on 8 images" in out


def test_a_path_alone_is_seen_and_said(photos: Path, mcld: Mcld, tmp_path: Path) -> None:
    status, out, err = mcld("train", "data=photos", "data.val=0.25", "model=resnet8", *TRAIN, "run=a")
    assert status == 0, err
    assert "data folder data.path=photos: 24 training and 8 validation images, 2 classes" in out
    shutil.copytree(photos / "dog", tmp_path / "test" / "dog")  # of one class there is nothing to test on
    status, out, err = mcld("evaluate", "a", "test")
    assert status == 0, err
    assert f"16 images of {tmp_path / 'test'}" in out or "16 images of ./test" in out or "16 images of test" in out
    assert "on 16 images" in out
    assert "(0 of 0)" not in out
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "emu")
    status, out, err = mcld("evaluate", "a", "test")
    assert (status, out) == (2, "")
    assert "test has folders that are none of the 2 classes ('cat', 'dog'): 'emu'; expected CLASS/IMAGE" in err
    assert "nowhere is not there; expected a folder of images" in mcld("evaluate", "a", "nowhere")[2]


def test_paths_that_are_no_data(mcld: Mcld, tmp_path: Path, arrays: list[str]) -> None:
    (tmp_path / "notes.txt").touch()
    for word, said in (
        ("data=./digits", "data=./digits is not there; expected a folder of images"),
        ("data=notes.txt", "data=notes.txt is a file; expected a folder of images"),
    ):
        status, _, err = mcld("train", word, "model=resnet8")
        assert status == 2
        assert said in err
    files = {word.partition("=")[0]: word.partition("=")[2] for word in arrays}
    (tmp_path / "both").mkdir()
    shutil.copy(files["data.train"], tmp_path / "both" / "train.npz")
    assert "is one npz file; expected two: data=arrays" in mcld("train", "data=both/train.npz", "model=resnet8")[2]
    shutil.copy(files["data.val"], tmp_path / "both" / "val.npz")
    status, out, err = mcld("train", "data=both", "model=resnet8", "--cfg", "job")
    assert status == 0, err
    assert "name: arrays" in out


def test_a_csv_file_alone_is_seen(photos: Path, mcld: Mcld, tmp_path: Path) -> None:
    rows = [f"photos/{name}/{i:02}.png,{name}" for name in ("cat", "dog") for i in range(16)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    status, out, err = mcld("train", "data=labels.csv", "data.val=0.25", "model=resnet8", *TRAIN, "run=a")
    assert status == 0, err
    assert "data csv data.path=labels.csv: 24 training and 8 validation images, 2 classes" in out
    status, out, err = mcld("evaluate", "a")
    assert status == 0, err
    assert "on 8 images" in out
