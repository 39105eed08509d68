import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mcld.data import DataSet, FileSplit, load_data
from mcld.data.holdout import fraction_of, hold_out, read_split
from mcld.errors import InputError

WriteImage = Callable[..., None]


@pytest.fixture
def whole(photos: Path) -> Path:
    """The class folders alone: 12 cats and 12 dogs, and no split."""
    return photos / "train"


def sides(data: DataSet) -> tuple[set[str], set[str]]:
    assert isinstance(data.train, FileSplit)
    assert isinstance(data.val, FileSplit)
    return set(data.train.files), set(data.val.files)


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        load_data("folder", path=path, **options)
    return str(error.value)


def test_a_folder_without_a_split_is_told_the_word(whole: Path, photos: Path) -> None:
    assert "or data.val=0.1 to hold out a tenth of the images for validation" in refusal(whole)
    shutil.rmtree(photos / "val")
    assert "or data.val=0.1 to hold out" in refusal(photos)


def test_a_part_of_each_class_is_held_out(whole: Path) -> None:
    data = load_data("folder", path=whole, val=0.25)
    train, val = sides(data)
    assert (len(train & val), len(train | val)) == (0, 24)
    assert [part.labels.bincount().tolist() for part in (data.train, data.val)] == [[9, 9], [3, 3]]
    assert data.notes[0].endswith(
        "6 of 24 images are held out for validation (data.val=0.25), the same share of each class"
    )
    assert sides(load_data("folder", path=whole, val="0.25"))[1] == val
    assert sides(load_data("folder", path=whole, val=0.25, val_seed=1))[1] != val
    assert data.train.fingerprint() != data.val.fingerprint()


def test_the_choice_is_by_content(whole: Path, write_image: WriteImage) -> None:
    _, val = sides(load_data("folder", path=whole, val=0.25))
    held = sorted(val)[0]
    shutil.copy(whole / held, whole / "cat" / "zz copy.jpg")
    shutil.copy(whole / held, whole / "dog" / "zz copy.jpg")
    data = load_data("folder", path=whole, val=0.25)
    assert {held, "cat/zz copy.jpg", "dog/zz copy.jpg"} <= sides(data)[1]
    (whole / held).rename(whole / "cat" / "another name.jpg")
    assert "cat/another name.jpg" in sides(load_data("folder", path=whole, val=0.25))[1]


def test_of_train_where_there_is_one(photos: Path) -> None:
    data = load_data("folder", path=photos, val=0.5)
    assert (len(data.train), len(data.val)) == (12, 12)
    assert data.notes[0] == f"{photos}: a part of 'train' validates, and 'val' is not read"
    shutil.rmtree(photos / "train")
    assert "expected train/CLASS/IMAGE, or class folders alone" in refusal(photos, val=0.5)


def test_small_classes() -> None:
    assert hold_out([0, 0, 1, 2, 2], list("abcdd"), 0.9, 0) == ([True, False, False, False, False], [1, 2]) or (
        hold_out([0, 0, 1, 2, 2], list("abcdd"), 0.9, 0) == ([False, True, False, False, False], [1, 2])
    )


def test_a_class_of_one_image_stays_in_training(whole: Path, write_image: WriteImage) -> None:
    write_image(whole / "emu" / "a.png", seed=9)
    data = load_data("folder", path=whole, val=0.25)
    assert "1 classes have one image, and none to validate on: 'emu'" in data.notes[1]
    assert "emu/a.png" in sides(data)[0]


@pytest.mark.parametrize("word", ["0", "-0.1", "1.5", "10", "0.0"])
def test_shares_that_are_none(word: str, whole: Path) -> None:
    assert f"data.val={word}; expected the share of the images" in refusal(whole, val=word)


def test_names_are_no_shares() -> None:
    assert [fraction_of(word) for word in (None, "val", "test", "v1", "0.1", ".5", "1")] == [None] * 4 + [0.1, 0.5, 1]


def test_an_earlier_split_is_taken_by_content(whole: Path, tmp_path: Path, write_image: WriteImage) -> None:
    data = load_data("folder", path=whole, val=0.25)
    table = tmp_path / "split.csv"
    table.write_text(data.split_table)
    first, held = data.split_table.splitlines()[:2], sorted(sides(data)[1])[0]
    assert first[0] == "path,digest,split"
    assert first[1].startswith("cat/00.jpg,")
    (whole / held).rename(whole / "cat" / "moved.jpg")
    for i in range(20):
        write_image(whole / "cat" / f"new{i}.png", seed=500 + i)
    again = load_data("folder", path=whole, split=tmp_path)
    assert "cat/moved.jpg" in sides(again)[1]
    assert (len(again.train), len(again.val)) == (18, 6)
    assert any("left out 20 files" in note and "'cat/new0.png'" in note for note in again.notes)
    (whole / "cat" / "moved.jpg").unlink()
    gone = load_data("folder", path=whole, split=table)
    assert any("1 images of" in note and "not there any more" in note for note in gone.notes)


def test_splits_that_are_none(whole: Path, tmp_path: Path) -> None:
    assert "expected a run directory with a split.csv" in refusal(whole, split=tmp_path)
    table = tmp_path / "split.csv"
    for text, said in (
        ("a,b\n1,2\n", "has the columns ['a', 'b']"),
        ("path,digest,split\na,12,test\n", "line 2 is damaged"),
        ("path,digest,split\na,12,val\na,12,train\n", "is in train and in val"),
        ("path,digest,split\na,12,val\n", "none of its training images is in"),
    ):
        table.write_text(text)
        assert said in refusal(whole, split=table)
    table.write_text("path,digest,split\na,12,val\nb,13,train\n")
    assert read_split(str(tmp_path)) == {"12": True, "13": False}


def test_equal_files_in_both_splits_are_told(photos: Path) -> None:
    shutil.copy(photos / "train" / "cat" / "00.jpg", photos / "val" / "cat" / "same.jpg")
    assert load_data("folder", path=photos, cache="off").notes == (
        f"warning: 1 of 13 validation images in {photos}/val are training images, too, byte for byte: 'cat/same.jpg'; "
        "figures on them are too good",
    )


def test_all_images_to_evaluate(whole: Path) -> None:
    data = load_data("folder", path=whole, val=1)
    assert len(data.val) == 24
    assert "all 24 images are to evaluate on (data.val=1)" in data.notes[0]
