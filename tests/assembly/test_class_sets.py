"""Teachers of other classes than the data's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mcld.assembly.network_options import NetworkSettings
from mcld.assembly.networks import build_network, load_run
from mcld.data import load_data

Mcld = Callable[..., tuple[int, str, str]]


@pytest.fixture
def some(tmp_path: Path, arrays: list[str]) -> list[str]:
    """The words for the images of classes d and b alone, in this order."""
    words = ["data=arrays", "data.batch_size=20"]
    for word in arrays[1:3]:
        key, _, file = word.partition("=")
        with np.load(file) as whole:
            keep = np.isin(whole["labels"], [1, 3])
            labels = np.where(whole["labels"][keep] == 3, 0, 1)
            np.savez(
                tmp_path / Path(file).name, images=whole["images"][keep], labels=labels, names=np.array(["d", "b"])
            )
        words.append(f"{key}={tmp_path / Path(file).name}")
    return words


def test_a_teacher_that_knows_more_is_cut_to_the_classes_by_name(mcld: Mcld, some: list[str], teacher: Path) -> None:
    files = dict(word.removeprefix("data.").split("=") for word in some[2:])
    data = load_data("arrays", **files)
    notes: list[str] = []
    cut = build_network(NetworkSettings(name=str(teacher)), data.info, "teacher", notes).eval()
    assert any("cut from 4 to 2 classes by name, its outputs d (3), b (1)" in note for note in notes)
    images = data.val.images(torch.arange(8), torch.full((8,), data.val.views.center))
    with torch.no_grad():
        torch.testing.assert_close(cut(images), load_run(str(teacher)).eval()(images)[:, [3, 1]])
    words = [*some, f"teacher={teacher}", "student=resnet8", "method=mcld", "schedule.epochs=1", "threads=1"]
    status, out, err = mcld("distill", *words, "run=d")
    assert status == 0, err
    assert "top-1 100.00%" in next(line for line in out.splitlines() if line.startswith(f"teacher {teacher}: top-1"))


def test_a_teacher_that_lacks_a_class_is_refused_with_the_ways(
    mcld: Mcld, tmp_path: Path, arrays: list[str], teacher: Path
) -> None:
    words = ["data=arrays"]
    for word in arrays[1:3]:
        key, _, file = word.partition("=")
        with np.load(file) as whole:
            names = np.array(["a", "b", "c", "new"])
            np.savez(tmp_path / Path(file).name, images=whole["images"], labels=whole["labels"], names=names)
        words.append(f"{key}={tmp_path / Path(file).name}")
    status, _, err = mcld("distill", *words, f"teacher={teacher}", "student=resnet8", "run=d")
    assert (status, err.count("\n")) == (2, 1)
    assert "only the data: 'new'" in err
    assert f"mcld train model={teacher} freeze=backbone" in err
