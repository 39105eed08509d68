import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mcld.data import TensorSplit, load_data
from mcld.errors import InputError

WNIDS = ("n02124075", "n01443537")  # as in the archive, not sorted


@pytest.fixture
def root(tmp_path: Path, write_image: Callable[..., None]) -> Path:
    root = tmp_path / "tiny-imagenet-200"
    lines = []
    for c, wnid in enumerate(WNIDS):
        for i in range(4):
            write_image(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", (64, 64), seed=10 * c + i)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    for i, wnid in enumerate((WNIDS[0], WNIDS[1], WNIDS[1])):
        write_image(root / "val" / "images" / f"val_{i}.JPEG", (64, 64), seed=90 + i)
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (root / "words.txt").write_text(
        "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\n"
    )
    return root


def load(root: Path, **options: object) -> tuple[TensorSplit, TensorSplit, tuple[str, ...]]:
    data = load_data("tiny_imagenet", path=root.parent, download=False, **options)
    assert isinstance(data.train, TensorSplit)
    assert isinstance(data.val, TensorSplit)
    return data.train, data.val, tuple(data.info.classes)


def refusal(root: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        load(root, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_official_layout(root: Path, cache: Path) -> None:
    train, val, classes = load(root)
    assert classes == ("goldfish", "Egyptian cat")
    assert train.labels.tolist() == [0] * 4 + [1] * 4
    assert val.labels.tolist() == [1, 0, 0]
    assert train.views.description == "crop 64, padding 8, horizontal flip"
    file = root / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_2.JPEG"
    assert torch.equal(train.raw[6], torch.from_numpy(np.asarray(Image.open(file)).transpose(2, 0, 1).copy()))
    pixels = list((cache / "pixels").iterdir())
    assert len(pixels) == 2
    again, _, _ = load(root)
    assert again.fingerprint() == train.fingerprint()
    pixels[0].write_bytes(b"broken")
    pixels[1].write_bytes(pixels[1].read_bytes()[:-5])
    assert load(root)[0].fingerprint() == train.fingerprint()


def test_without_words_classes_are_wnids_and_images_can_be_small(root: Path) -> None:
    (root / "words.txt").unlink()
    train, val, classes = load(root, image_size=32)
    assert classes == tuple(sorted(WNIDS))
    assert (train.raw.shape, val.raw.shape) == ((8, 3, 32, 32), (3, 3, 32, 32))
    assert train.views.description == "crop 32, padding 4, horizontal flip"


def test_grey_files_become_colour(root: Path, write_image: Callable[..., None]) -> None:
    write_image(root / "val" / "images" / "val_0.JPEG", (64, 64), mode="L")
    _, val, _ = load(root)
    assert val.raw.shape[1] == 3
    assert torch.equal(val.raw[0, 0], val.raw[0, 2])


def test_odd_sizes(root: Path, write_image: Callable[..., None]) -> None:
    write_image(root / "train" / WNIDS[1] / "images" / f"{WNIDS[1]}_3.JPEG", (64, 60))
    assert "is 60×64" in refusal(root)
    assert load(root, image_size=32)[0].raw.shape == (8, 3, 32, 32)


@pytest.mark.parametrize("name", ["wnids.txt", "val/val_annotations.txt"])
def test_missing_files(root: Path, name: str) -> None:
    (root / name).unlink()
    assert f"lacks {name}; expected wnids.txt, words.txt, train/WNID/images/" in refusal(root)


def test_annotations_that_do_not_fit(root: Path) -> None:
    path = root / "val" / "val_annotations.txt"
    whole = path.read_text()
    path.write_text(whole.replace(WNIDS[0], "n99999999"))
    assert "line 1 of" in refusal(root)
    path.write_text(whole + f"val_9.JPEG\t{WNIDS[0]}\t0\t0\t1\t1\n")
    assert "named there and not present: 'val/images/val_9.JPEG'" in refusal(root)
    path.write_text(whole.splitlines()[0] + "\n")
    assert "present and not named there: 'val/images/val_1.JPEG', 'val/images/val_2.JPEG'" in refusal(root)
    path.write_bytes(b"\xff\xfe")
    assert "expected a text file" in refusal(root)


def test_empty_class_and_damaged_image(root: Path) -> None:
    (root / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_0.JPEG").write_bytes(b"")
    data = load_data("tiny_imagenet", path=root, download=False)
    assert len(data.train) == 7
    assert "skipped 1 of 8" in data.notes[0]
    for file in (root / "train" / WNIDS[0] / "images").iterdir():
        file.unlink()
    assert f"{WNIDS[0]}/images holds no image" in refusal(root)
    (root / "wnids.txt").write_text("\n")
    assert "wnids.txt is empty" in refusal(root)


def test_a_pipe_is_not_waited_for(root: Path) -> None:
    (root / "wnids.txt").unlink()
    os.mkfifo(root / "wnids.txt")
    assert "wnids.txt: it is a pipe, no file; expected a text file" in refusal(root)
