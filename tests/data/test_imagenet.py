from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mcld.data import load_data
from mcld.errors import InputError

SYNSETS = ("n01440764", "n02012849", "n03126707")


@pytest.fixture
def root(tmp_path: Path, write_image: Callable[..., None]) -> Path:
    root = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    for split, count in (("train", 4), ("val", 2)):
        for c, synset in enumerate(SYNSETS):
            for i in range(count):
                write_image(root / split / synset / f"{synset}_{i}.JPEG", (50 + 9 * i, 44 + c), seed=10 * c + i)
    return root


def test_the_field_recipe(root: Path) -> None:
    data = load_data("imagenet", path=root)
    assert data.info.classes == SYNSETS
    assert data.info.image_size == (224, 224)
    assert data.info.mean == (0.485, 0.456, 0.406)
    assert data.train.views.description == (
        "random resized crop 224 of area 0.08 to 1 from 915, horizontal flip; resize 256, center crop 224, RGB"
    )
    assert data.val.views.description == "resize 256, center crop 224, RGB"
    assert (len(data.train), len(data.val)) == (12, 6)
    assert data.train.images(torch.arange(3), torch.arange(3)).shape == (3, 3, 224, 224)


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        ("LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n"),
        ("words.txt", "n01440764\ttench, Tinca tinca\nn02012849\tcrane\nn03126707\tcrane\n"),
    ],
)
def test_class_names_beside_or_above_the_data(root: Path, file: str, lines: str) -> None:
    names = ("tench", "crane (n02012849)", "crane (n03126707)")
    place = root / file if file == "words.txt" else root.parents[2] / file
    place.write_text(lines)
    assert load_data("imagenet", path=root).info.classes == names
    place.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot read .*expected lines of a synset and its words"):
        load_data("imagenet", path=root)


def test_grey_and_damaged_images(root: Path, write_image: Callable[..., None]) -> None:
    victim = root / "train" / SYNSETS[1] / f"{SYNSETS[1]}_1.JPEG"
    write_image(victim, mode="L")
    data = load_data("imagenet", path=root, image_size=32)
    row = data.train.images(torch.tensor([5]), torch.tensor([-1]))
    assert row.shape == (1, 3, 32, 32)
    assert torch.equal(row[:, 0], row[:, 1])
    fingerprint = data.train.fingerprint()
    victim.write_bytes(victim.read_bytes()[:-40])
    damaged = load_data("imagenet", path=root, cache="off").train
    assert damaged.fingerprint() != fingerprint
    with pytest.raises(InputError, match=f"cannot read the image {victim}: image file is truncated"):
        damaged.images(torch.tensor([5]), torch.tensor([1]))
    with pytest.raises(InputError, match=f"cannot read the image {victim}: image file is truncated"):
        load_data("imagenet", path=root)  # which decodes them all, for the cache
    checked = load_data("imagenet", path=root, check=True)
    assert len(checked.train) == 11
    assert "skipped 1 of 12 images" in checked.notes[0]


def test_layouts_that_are_not_it(root: Path, write_image: Callable[..., None]) -> None:
    def refusal() -> str:
        with pytest.raises(InputError) as error:
            load_data("imagenet", path=root)
        assert "\n" not in str(error.value)
        return str(error.value)

    (root / "val").rename(root / "kept")
    assert "holds 'kept', 'train'; expected train/CLASS/IMAGE and val/CLASS/IMAGE" in refusal()
    write_image(root / "val" / "ILSVRC2012_val_00000001.JPEG")
    assert "val holds images without class folders" in refusal()
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").unlink()
    (root / "val").rmdir()
    (root / "kept").rename(root / "val")
    (root / "train" / "n09999999").mkdir()
    assert "n09999999 holds no image" in refusal()
    (root / "train" / "n09999999").rmdir()
    for split in ("train", "val"):
        write_image(root / split / "tench" / "a.JPEG")
    assert "no synset, such as 'tench'" in refusal()
