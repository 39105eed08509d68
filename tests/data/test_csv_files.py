import shutil
from pathlib import Path

import pytest

from mcld.data import FileSplit, load_data
from mcld.errors import InputError


@pytest.fixture
def table(photos: Path) -> Path:
    """labels.csv beside the photos: 12 training and 6 validation images of each of two classes."""
    rows = [
        f"{path.relative_to(photos.parent)},{path.parent.name},{path.parent.parent.name}"
        for path in sorted(photos.glob("*/*/*.jpg"), reverse=True)
    ]
    file = photos.parent / "labels.csv"
    file.write_text("\n".join(["File,label,Split", *rows]) + "\n")
    return file


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        load_data("csv", path=path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_it_is_the_folder_by_another_way(table: Path, photos: Path) -> None:
    listed, folder = load_data("csv", path=table, cache="off"), load_data("folder", path=photos, cache="off")
    assert (listed.info.classes, listed.info.image_size, listed.notes) == (("cat", "dog"), (32, 32), ())
    assert listed.train.fingerprint() == folder.train.fingerprint()
    assert listed.val.fingerprint() == folder.val.fingerprint()


def test_a_share_is_held_out(table: Path) -> None:
    data = load_data("csv", path=table, val=0.25)
    assert isinstance(data.val, FileSplit)
    assert [part.labels.bincount().tolist() for part in (data.train, data.val)] == [[14, 14], [4, 4]]
    (table.parent / "split.csv").write_text(data.split_table)
    again = load_data("csv", path=table, split=table.parent)
    assert again.val.fingerprint() == data.val.fingerprint()


def test_columns_and_root_are_chosen(table: Path, photos: Path, tmp_path: Path) -> None:
    lines = table.read_text().replace(",", ";").splitlines()
    other = tmp_path / "elsewhere" / "list.csv"
    other.parent.mkdir()
    other.write_text("\ufeff" + "\n".join(["where;species;fold", *lines[1:]]))
    assert "has the columns 'where', 'species', 'fold'; expected one of path, file," in refusal(other)
    chosen = {"image_column": "where", "label_column": "species", "root": photos.parent}
    assert "or data.val=0.1 to hold out a tenth of the images" in refusal(other, **chosen)
    data = load_data("csv", path=other, split_column="fold", **chosen)
    assert (len(data.train), len(data.val)) == (24, 12)
    assert "data.label_column=x: " in refusal(other, label_column="x", image_column="where")


def test_test_images_validate_only_with_a_word(table: Path) -> None:
    table.write_text(table.read_text().replace(",val", ",Test"))
    data = load_data("csv", path=table)
    assert len(data.val) == 12
    assert "its test images validate here" in data.notes[0]


def test_numbers_are_in_their_order(table: Path) -> None:
    table.write_text(table.read_text().replace(",cat,", ",10,").replace(",dog,", ",9,"))
    assert load_data("csv", path=table).info.classes == ("9", "10")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("photos/train/cat/00.jpg,dog,train", "line 38: photos/train/cat/00.jpg was 'cat' (train) before and is 'dog'"),
        ("photos/train/cat/00.jpg,cat,val", "was 'cat' (train) before and is 'cat' (val) here"),
        ("a.jpg,cat", "line 38 has 2 columns; expected 3"),
        ("a.jpg,,train", "line 38 has no label"),
        (",cat,train", "line 38 has no path"),
        ("a.jpg,cat,later", "the split is 'later'; expected train, val or test"),
        ('"a.jpg,cat,train', "cannot be read"),
        ("a.jpg,emu,val", "has no training image of 'emu'"),
        ("a.jpg,cat,train\nb.jpg,cat,train", "2 of 26 images in"),
    ],
)
def test_rows_that_are_wrong(row: str, said: str, table: Path) -> None:
    table.write_text(table.read_text() + row + "\n")
    assert said in refusal(table)


def test_files_that_are_none(table: Path, photos: Path) -> None:
    assert "is not there; expected a CSV file" in refusal(photos / "x.csv")
    assert "is a folder; expected a CSV file" in refusal(photos)
    assert "is no folder" in refusal(table, root=photos / "x")
    assert "data.val=half; expected the share" in refusal(table, val="half")
    table.write_text("path,label\n")
    assert "lists no image" in refusal(table)
    table.write_text("")
    assert "has the columns none" in refusal(table)


def test_a_row_twice_counts_once(table: Path) -> None:
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1]]))
    data = load_data("csv", path=table, cache="off")
    assert (len(data.train), len(data.val)) == (24, 12)
    assert data.notes == (f"{table}: 1 rows are there twice and count once",)
    shutil.rmtree(table.parent / "photos" / "val")
    assert "12 of 12 images in" in refusal(table)
