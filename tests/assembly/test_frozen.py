"""Training the classifier alone, on features that are computed once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcld.configs.expand import expand
from mcld.data.cache import cache_dir
from mcld.engine.checkpoint import list_checkpoints
from mcld.engine.loop import Loop
from mcld.engine.stop import Interrupted
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]


@pytest.fixture
def other(tmp_path: Path) -> list[str]:
    """The words for data of three classes, none of them the teacher's: bars in other places."""
    rng = np.random.default_rng(1)
    words = ["data=arrays"]
    for split, count in (("train", 90), ("val", 30)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 120, (count, 8, 8, 3))
        for image, label in zip(images, labels, strict=True):
            image[:, 2 * label + 1, :] += 130
        names = np.array(["x", "y", "z"])
        np.savez(tmp_path / f"{split}.npz", images=images.astype(np.uint8), labels=labels, names=names)
        words.append(f"data.{split}={tmp_path / split}.npz")
    return [*words, "data.batch_size=30"]


def test_the_head_is_retrained_for_other_classes_and_the_rest_stays(
    mcld: Mcld, other: list[str], teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCLD_CACHE", "cache")
    words = ["train", *other, f"model={teacher}", "freeze=backbone", "schedule.epochs=6", "threads=1"]
    status, out, err = mcld(*words, "run=f")
    assert status == 0, err
    assert "new head: 4 → 3 classes" in out
    assert "features of 90 images (train), 90 computed now" in out
    before, after = (load_file(RunDirectory(str(run)).weights("last")) for run in (teacher, "f"))
    changed = {
        key for key in after if before[key].shape != after[key].shape or not torch.equal(before[key], after[key])
    }
    assert changed == {"fc.weight", "fc.bias"}
    summary = RunDirectory("f").read_json(RunDirectory("f").summary)
    assert summary["last"]["top1"] > 0.6  # guessing gives a third
    status, out, err = mcld("evaluate", "f", "threads=1")  # from the images, through the whole network
    assert status == 0, err
    assert f"top-1 {summary['last']['top1']:.2%}" in out
    _, out, _ = mcld(*words, "run=again")
    assert out.count(" 0 computed now") == 2
    last = load_file(RunDirectory("again").weights("last"))
    assert all(torch.equal(after[key], last[key]) for key in after)


def test_an_interrupted_run_goes_on_to_the_same_bits(
    mcld: Mcld, other: list[str], teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", *other, f"model={teacher}", "freeze=backbone", "schedule.epochs=4", "threads=1"]
    status, _, err = mcld(*words, "run=whole")
    assert status == 0, err
    save = Loop._save

    def stopped(loop: Loop) -> None:
        save(loop)
        if loop.position.epoch == 2:
            raise Interrupted("stopped", 2)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_save", stopped)
        assert mcld(*words, "run=part")[0] == 130
    assert list_checkpoints(RunDirectory("part").checkpoints)
    shutil.rmtree(cache_dir() / "features")  # they are computed again
    status, _, err = mcld("resume", "part")
    assert status == 0, err
    one, two = (load_file(RunDirectory(run).weights("last")) for run in ("whole", "part"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_damaged_part_of_the_cache_is_computed_again(
    mcld: Mcld, other: list[str], teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCLD_CACHE", "cache")
    words = ["train", *other, f"model={teacher}", "freeze=backbone", "schedule.epochs=1", "threads=1"]
    assert mcld(*words, "run=a")[0] == 0
    file = min(Path("cache/features").rglob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))
    _, out, _ = mcld(*words, "run=b")
    assert sorted(line.split(", ")[1] for line in out.splitlines() if "computed now" in line)[0] == "0 computed now"
    assert " 90 computed now" in out or " 30 computed now" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "model=resnet8 freeze=backbone",
            "freeze=backbone keeps the weights of model=resnet8, which are new",
        ),
        ("model=resnet8 freeze=all", "freeze=all; expected one of none, backbone"),
    ],
)
def test_what_cannot_be_right_is_refused(mcld: Mcld, arrays: list[str], words: str, said: str) -> None:
    status, _, err = mcld("train", *arrays, *words.split(), "run=r")
    assert (status, err.count("\n")) == (2, 1)
    assert said in err
    assert not Path("r").exists()


def test_a_network_of_a_library_gets_its_published_weights() -> None:
    asked = {"model.name": "timm/resnet50", "freeze": "backbone"}
    assert expand("train", asked) == {"model.pretrained": "true"}
    assert expand("train", {**asked, "model.checkpoint": "w.safetensors"}) == {}
    assert expand("train", {"model.name": "timm/resnet50"}) == {}
