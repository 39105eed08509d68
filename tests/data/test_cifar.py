import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcld.data import TensorSplit, load_data
from mcld.errors import InputError

NAMES = ["apple", "bear", "chair"]


def batch(count: int, seed: int, key: str) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    return {"data": data, key: [i % 3 for i in range(count)], "filenames": ["x.png"] * count}


def write(path: Path, content: object, protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-100-python"
    write(folder / "train", batch(12, 0, "fine_labels"))
    write(folder / "test", batch(6, 1, "fine_labels"))
    write(folder / "meta", {"fine_label_names": NAMES, "coarse_label_names": ["thing"]})
    return folder


def refusal(path: Path, name: str = "cifar100") -> str:
    with pytest.raises(InputError) as error:
        load_data(name, path=path, download=False)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_cifar100_as_torchvision_reads_it(hundred: Path, protocol: int) -> None:
    content = batch(12, 0, "fine_labels")
    write(hundred / "train", content, protocol)
    data = load_data("cifar100", path=hundred.parent, download=False)
    assert isinstance(data.train, TensorSplit)
    assert data.info.classes == tuple(NAMES)
    assert (data.info.mean, data.info.std) == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    assert data.train.views.description == "crop 32, padding 4, horizontal flip"
    assert (data.train.views.count, data.val.views.count, len(data.val)) == (162, 1, 6)
    assert torch.equal(data.train.raw, torch.from_numpy(content["data"].reshape(-1, 3, 32, 32)))
    assert data.train.labels.tolist() == content["fine_labels"]
    assert load_data("cifar100", path=hundred, download=False).train.fingerprint() == data.train.fingerprint()


def test_cifar10_joins_its_batches(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    for part in range(1, 6):
        write(folder / f"data_batch_{part}", batch(3, part, "labels"))
    write(folder / "test_batch", batch(3, 9, "labels"))
    write(folder / "batches.meta", {"label_names": NAMES})
    data = load_data("cifar10", path=tmp_path, download=False)
    assert isinstance(data.train, TensorSplit)
    expected = np.concatenate([batch(3, part, "labels")["data"] for part in range(1, 6)])
    assert torch.equal(data.train.raw, torch.from_numpy(expected.reshape(-1, 3, 32, 32)))
    (folder / "data_batch_3").unlink()
    assert "lacks data_batch_3" in refusal(tmp_path, "cifar10")


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def test_a_malicious_pickle_runs_nothing(hundred: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    write(hundred / "train", {"data": Payload(marker)})
    message = refusal(hundred.parent)
    assert "wants to run" in message
    assert "nothing was run" in message
    assert not marker.exists()
    pickle.loads((hundred / "train").read_bytes())  # the same file does run code under plain pickle
    assert marker.exists()


def test_damaged_files(hundred: Path) -> None:
    whole = (hundred / "train").read_bytes()
    (hundred / "train").write_bytes(whole[:-2000])
    assert "is truncated or damaged" in refusal(hundred)
    write(hundred / "train", [1])
    assert "holds a list" in refusal(hundred)
    write(hundred / "train", {**batch(4, 0, "fine_labels"), "fine_labels": [0, 1, 2]})
    assert "is laid out otherwise" in refusal(hundred)
    write(hundred / "train", {**batch(4, 0, "fine_labels"), "fine_labels": [0, 1, 2, 3]})
    assert "labels outside 0 to 2" in refusal(hundred)
    write(hundred / "train", batch(4, 0, "labels"))
    assert "a list 'fine_labels'" in refusal(hundred)
    write(hundred / "meta", {})
    assert "has no list 'fine_label_names'" in refusal(hundred)


class Huge:
    def __reduce__(self) -> tuple[Any, ...]:
        return np.ndarray, ((100_000, 3072), "u1")


def test_small_files_of_huge_things(hundred: Path) -> None:
    write(hundred / "train", {"data": Huge(), "fine_labels": [0] * 100_000})
    assert "train has an array larger than the file; expected the official file" in refusal(hundred)
    write(hundred / "train", batch(12, 0, "fine_labels"))
    laughs: list[Any] = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    write(hundred / "meta", {"fine_label_names": laughs})
    assert "meta has no list 'fine_label_names'" in refusal(hundred)
    (hundred / "meta").unlink()
    os.mkfifo(hundred / "meta")
    assert "lacks meta" in refusal(hundred)
