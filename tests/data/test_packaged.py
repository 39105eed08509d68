from typing import Any

import pytest
import torch

from mcld.data import DataOptions, DataSet, TensorSplit, load_data, tensor_data
from mcld.errors import InputError
from mcld.testing import check_data


def raw(split: object) -> torch.Tensor:
    assert isinstance(split, TensorSplit)
    return split.raw


def test_digits() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.val)) == (1347, 450)
    assert (data.info.channels, data.info.image_size, data.info.classes) == (1, (8, 8), tuple("0123456789"))
    assert data.train.views.description == "crop 8, padding 1"
    assert (data.train.views.count, data.val.views.count) == (9, 1)
    assert int(raw(data.train).max()) == 255
    of_all = (data.train.labels.bincount() + data.val.labels.bincount()) * 450 / 1797
    assert (data.val.labels.bincount() - of_all).abs().max() <= 1
    assert load_data("digits").val.fingerprint() == data.val.fingerprint()
    assert data.info.mean[0] == pytest.approx(float(raw(data.train).double().mean() / 255), abs=1e-4)


def test_without_augmentation_only_the_image_itself_is_shown() -> None:
    data = load_data("digits", augment=False)
    assert data.train.views.count == 1
    index = torch.arange(20)
    view = data.train.views.sample(20, torch.Generator().manual_seed(0))
    assert torch.equal(data.train.images(index, view), raw(data.train)[:20])


def test_mnist5k() -> None:
    data, few = load_data("mnist5k"), load_data("mnist5k", train_per_class=7)
    assert (len(data.train), len(data.val), len(few.train)) == (4000, 1000, 70)
    assert data.train.labels.bincount().tolist() == [400] * 10
    assert data.val.labels.bincount().tolist() == [100] * 10
    assert few.train.labels.bincount().tolist() == [7] * 10
    assert few.val.fingerprint() == data.val.fingerprint()
    assert data.train.views.description == "crop 28, padding 2"
    with pytest.raises(InputError, match="train_per_class is 401; expected 1 to 400"):
        load_data("mnist5k", train_per_class=401)


@pytest.mark.parametrize(("name", "options"), [("digits", {}), ("digits", {"policy": "trivial"}), ("mnist5k", {})])
def test_the_battery_for_data_sets(name: str, options: dict[str, str]) -> None:
    check_data(name, **options)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"labels": torch.full((60,), 3)}, "the labels of train range from 3 to 3; expected 0 to 1"),
        ({"seed": None}, "the fingerprint of train is another when the data is read again"),
        ({"val": 0}, "training and validation images are the same"),
    ],
)
def test_the_battery_finds_what_is_wrong(wrong: dict[str, Any], said: str) -> None:
    def read() -> DataSet:
        def part(seed: int | None) -> tuple[torch.Tensor, torch.Tensor]:
            g = torch.Generator()
            _ = g.seed() if seed is None else g.manual_seed(seed)
            return torch.randint(256, (60, 3, 8, 8), generator=g, dtype=torch.uint8), torch.arange(60) % 2

        train, val = part(wrong.get("seed", 0)), part(wrong.get("val", 1))
        train = (train[0], wrong.get("labels", train[1]))
        return tensor_data("mine", ["a", "b"], train, val, padding=1, flip=True, options=DataOptions(name="mine"))

    with pytest.raises(AssertionError, match=said):
        check_data(read)
