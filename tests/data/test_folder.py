import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mcld.data.images as reading
from mcld.data import FileSplit, load_data
from mcld.data.images import decode, sort_out
from mcld.data.listing import natural_size
from mcld.errors import InputError

WriteImage = Callable[..., None]


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        load_data("folder", path=path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_everything_follows_from_the_files(photos: Path) -> None:
    data = load_data("folder", path=photos, cache="off")
    assert data.info.classes == ("cat", "dog")
    assert (data.info.channels, data.info.image_size) == (3, (32, 32))
    assert (len(data.train), len(data.val), data.notes) == (24, 12, ())
    assert data.train.labels.tolist() == [0] * 12 + [1] * 12
    assert data.train.views.description == (
        "random resized crop 32 of area 0.35 to 1 from 63, horizontal flip; resize 37, center crop 32, RGB"
    )
    plain = data.train.images(torch.arange(24), torch.full((24,), -1)).double() / 255
    assert data.info.mean == pytest.approx(plain.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert data.info.std == pytest.approx(plain.std((0, 2, 3), unbiased=False).tolist(), abs=1e-4)
    assert torch.equal(
        data.val.images(torch.tensor([7]), torch.tensor([0]))[0], data.val.images(*torch.tensor([[7], [0]]))[0]
    )


def test_size_and_augmentation_can_be_chosen(photos: Path) -> None:
    data = load_data("folder", path=photos, image_size=20, augment=False)
    assert (data.info.image_size, data.train.views.count) == ((20, 20), 1)
    assert data.train.views.description == "resize 23, center crop 20, RGB"
    with pytest.raises(InputError, match=r"scale is 2\.0"):
        load_data("folder", path=photos, scale=2)


def test_links_that_lead_back(photos: Path) -> None:
    link = photos / "train" / "cat" / "again"
    for target in (photos / "train" / "cat", photos):
        link.symlink_to(target)
        assert refusal(photos) == f"{link} is a link to {target}, which it lies in; remove the link"
        link.unlink()
    link.symlink_to(photos / "train" / "dog")
    (photos / "train" / "dog" / "back").symlink_to(photos / "train" / "cat")
    assert "which it lies in" in refusal(photos)
    (photos / "train" / "dog" / "back").unlink()
    assert len(load_data("folder", path=photos).train) == 36  # a link to elsewhere is a folder like others


@pytest.mark.parametrize(("side", "size"), [(96, 96), (100, 96), (31, 31), (32, 32), (500, 224), (8, 8), (223, 192)])
def test_natural_size(side: int, size: int) -> None:
    assert natural_size(side) == size


def test_the_validation_folder(photos: Path) -> None:
    shutil.copytree(photos / "val", photos / "test")
    (photos / "test" / "dog" / "00.jpg").unlink()
    assert len(load_data("folder", path=photos).val) == 12
    assert len(load_data("folder", path=photos, val="test").val) == 11
    shutil.rmtree(photos / "val")
    assert len(load_data("folder", path=photos).val) == 11
    shutil.move(photos / "test", photos / "validation")
    assert len(load_data("folder", path=photos).val) == 11
    assert "holds 'train', 'validation'; expected train/CLASS/IMAGE and eval/" in refusal(photos, val="eval")


def test_the_usual_names_of_the_splits(photos: Path) -> None:
    (photos / "train").rename(photos / "Train")
    shutil.copytree(photos / "val", photos / "TEST")
    (photos / "TEST" / "dog" / "00.jpg").unlink()
    for name in ("Valid", "dev", "VALIDATION", "val"):
        (photos / "val").rename(photos / name)
        data = load_data("folder", path=photos, cache="off")
        assert (len(data.train), len(data.val), data.notes) == (24, 12, ())
        (photos / name).rename(photos / "val")
    assert len(load_data("folder", path=photos, val="test").val) == 11
    assert len(load_data("folder", path=photos, val="TEST").val) == 11


def test_test_images_never_validate_without_a_word(photos: Path) -> None:
    (photos / "val").rename(photos / "Test")
    (photos / "train").rename(photos / "TRAIN")
    data = load_data("folder", path=photos)
    assert data.notes[0] == (
        f"{photos} has no validation folder (val, valid, validation, dev): its test images (Test) validate here, so "
        "figures on them are no test results; data.val=NAME takes another folder"
    )
    assert len(data.val) == 12
    shutil.copytree(photos / "Test", photos / "valid")
    shutil.copytree(photos / "Test", photos / "val")
    assert f"{photos}: 'val' is read, and 'valid' is not" in load_data("folder", path=photos).notes
    same = load_data("folder", path=photos, val="train")
    assert f"{photos}: validation is on the training images (TRAIN)" in same.notes


def test_a_path_that_is_one_level_off(photos: Path) -> None:
    assert f"; is it data.path={photos}?" in refusal(photos.parent)
    assert f"; is it data.path={photos}?" in refusal(photos / "train")


def test_one_folder_level_too_many(photos: Path) -> None:
    for split in ("train", "val"):
        (photos / split).rename(photos / "images")
        (photos / split).mkdir()
        (photos / "images").rename(photos / split / "images")
    assert refusal(photos) == (
        f"{photos}/train holds one folder, 'images', and the images lie in its sub-folders ('cat', 'dog'); expected "
        "train/CLASS/IMAGE: move them one level up"
    )
    for split in ("train", "val"):
        shutil.copytree(photos / split / "images", photos / split / "more")
    assert refusal(photos) == (
        f"{photos}/train: all images lie a level deeper, as in images/cat/00.jpg: what is a class? Say "
        "data.nested=upper ('images') or data.nested=lower ('images/cat')"
    )
    inner = load_data("folder", path=photos, nested="lower")
    assert inner.info.classes == ("images/cat", "images/dog", "more/cat", "more/dog")
    assert inner.train.labels.tolist() == [c for c in range(4) for _ in range(12)]
    data = load_data("folder", path=photos, nested="upper")
    assert data.info.classes == ("images", "more")
    assert f"{photos}/val: all images lie a level deeper, as in images/cat/00.jpg; a class is the upper folder" in (
        data.notes
    )


def test_a_name_is_one_class_however_its_letters_are_composed(photos: Path, write_image: WriteImage) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    (photos / "train" / "cat").rename(photos / "train" / composed)
    (photos / "val" / "cat").rename(photos / "val" / decomposed)
    data = load_data("folder", path=photos)
    assert data.info.classes == (composed, "dog")
    assert len(data.train) == 24
    write_image(photos / "train" / decomposed / "more.jpg")
    data = load_data("folder", path=photos)
    assert data.info.classes == (composed, "dog")
    assert data.train.labels.tolist() == [0] * 13 + [1] * 12
    assert f"{photos}/train: 2 folders are all called 'café' and are one class" in data.notes
    every = torch.arange(25)
    assert data.train.images(every, torch.full((25,), -1)).shape == (25, 3, 32, 32)


def test_a_name_that_is_no_unicode(photos: Path) -> None:
    for split in ("train", "val"):
        os.rename(os.fsencode(photos / split / "cat"), os.fsencode(photos / split) + b"/caf\xe9")  # noqa: PTH104
    victim = os.fsencode(photos / "train") + b"/caf\xe9/03.jpg"
    Path(os.fsdecode(victim)).write_bytes(b"no image")
    data = load_data("folder", path=photos)
    assert data.info.classes == ("caf\\xe9", "dog")
    assert data.train.images(torch.tensor([0]), torch.tensor([-1])).shape == (1, 3, 32, 32)
    "".join(data.info.classes).encode()


def test_what_systems_leave_behind_is_no_class_and_no_image(photos: Path, write_image: WriteImage) -> None:
    for split in ("train", "val"):
        for name in ("__MACOSX", "Thumbs.db", ".ipynb_checkpoints", "@eaDir"):
            write_image(photos / split / name / "a.jpg")
            write_image(photos / split / "cat" / name / "a.jpg")
    (photos / "train" / "desktop.ini").touch()
    data = load_data("folder", path=photos, cache="off")
    assert (data.info.classes, len(data.train), data.notes) == (("cat", "dog"), 24, ())


def test_what_is_left_out_is_counted_and_named(photos: Path) -> None:
    cat = photos / "train" / "cat"
    for number, name in enumerate(("00", "01.jpe", "02.tga", "03.download", "04.JP2")):
        with Image.open(cat / f"{number:02}.jpg") as image:
            form = {".tga": "TGA", ".JP2": "JPEG2000"}.get(Path(name).suffix, "JPEG")
            image.save(cat / name, form)
        (cat / f"{number:02}.jpg").unlink()
    data = load_data("folder", path=photos, cache="off")
    assert (len(data.train), data.notes) == (24, ())
    for name in ("a.heik", "b.txt", "c.txt", "deep/d", "e.svg"):
        (cat / name).parent.mkdir(exist_ok=True)
        (cat / name).write_text("no image")
    (photos / "train" / "labels.csv").touch()
    notes = load_data("folder", path=photos, cache="off").notes
    assert notes == (
        f"{photos}/train: left out 5 files that are no images mcld reads (2 .txt, 1 .heik, 1 without an "
        "ending, 1 .svg), such as cat/a.heik",
        f"{photos}/train: left out what lies beside the class folders: 'labels.csv'",
    )


def test_heic_without_its_reader(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcld.data.folder.suffixes", lambda: frozenset({".jpg"}))
    (photos / "train" / "cat" / "a.heic").write_bytes(b"no image")
    (note,) = load_data("folder", path=photos, cache="off").notes
    assert note.endswith("(1 .heic), such as cat/a.heic; .heic needs: pip install pillow-heif")


def test_what_is_no_file_is_skipped_like_a_broken_image(photos: Path) -> None:
    (photos / "train" / "cat" / "gone.jpg").symlink_to(photos / "nowhere")
    assert "skipped 1 of 25 images, which cannot be read: cat/gone.jpg (No such file" in " ".join(
        load_data("folder", path=photos, cache="off").notes
    )
    (photos / "train" / "cat" / "gone.jpg").unlink()
    os.mkfifo(photos / "train" / "dog" / "pipe.jpg")
    data = load_data("folder", path=photos)
    assert (len(data.train), len(data.val)) == (24, 12)
    assert any("dog/pipe.jpg (it is a pipe, no file)" in note for note in data.notes)


def test_a_folder_that_cannot_be_read_is_not_left_out(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = photos / "train" / "cat" / "closed"
    closed.mkdir()
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(closed))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    assert refusal(photos) == f"cannot read {closed}: Permission denied"


def test_layouts_that_are_not_it(photos: Path, tmp_path: Path, write_image: WriteImage) -> None:
    assert "is not there; expected a folder with train/CLASS/IMAGE" in refusal(tmp_path / "nowhere")
    assert "is a file; expected a folder" in refusal(photos / "train" / "cat" / "00.jpg")
    (tmp_path / "empty").mkdir()
    assert "holds nothing; expected train/CLASS/IMAGE and val/CLASS/IMAGE" in refusal(tmp_path / "empty")
    assert "holds 'cat', 'dog'; expected train/CLASS/IMAGE" in refusal(photos / "train")
    write_image(tmp_path / "flat" / "train" / "a.png")
    write_image(tmp_path / "flat" / "val" / "a.png")
    assert "train has no sub-folders; expected one per class" in refusal(tmp_path / "flat")
    (photos / "train" / "emu").mkdir()
    (photos / "train" / "emu" / "notes.txt").touch()
    assert "emu holds no image, only 1 file that is no image mcld reads (1 .txt), such as emu/notes.txt; " in refusal(
        photos
    )
    write_image(photos / "train" / "emu" / "a.png")
    write_image(photos / "val" / "fox" / "a.png")
    assert "differ; only in train: 'emu'; only in val: 'fox'; expected the same" in refusal(photos)


def test_files_of_every_kind_are_found(photos: Path, write_image: WriteImage) -> None:
    for i, name in enumerate(("a.PNG", "b.webp", "c.bmp", "d.JPeG", "deeper/e.gif", "f.tiff")):
        write_image(photos / "train" / "cat" / name, seed=i)
    (photos / "train" / "cat" / "Thumbs.db").touch()
    (photos / "train" / "cat" / "._a.jpg").touch()
    (photos / "train" / ".hidden").mkdir()
    assert len(load_data("folder", path=photos).train) == 30


def test_one_damaged_image_is_skipped_and_named(photos: Path) -> None:
    victim = photos / "train" / "dog" / "03.jpg"
    victim.write_bytes(victim.read_bytes()[:-40])
    data = load_data("folder", path=photos, cache="off")
    assert (len(data.train), len(data.val)) == (23, 12)
    assert data.train.labels.tolist() == [0] * 12 + [1] * 11
    (note,) = data.notes
    assert "skipped 1 of 24 images" in note
    assert "dog/03.jpg (image file is truncated" in note
    index = torch.arange(23)
    assert data.train.images(index, data.train.views.sample(23, torch.Generator())).shape == (23, 3, 32, 32)


def test_more_than_one_percent_is_refused(photos: Path) -> None:
    (photos / "val" / "cat" / "00.jpg").write_bytes(b"")
    (photos / "val" / "dog" / "01.jpg").write_text("no image")
    message = refusal(photos)
    assert "2 of 12 images" in message
    assert "cat/00.jpg (not an image), dog/01.jpg (not an image)" in message


def test_what_few_means() -> None:
    files = [f"{i}.jpg" for i in range(300)]
    rows, notes = sort_out("train", files, dict.fromkeys(files[:3], "cut"))
    assert rows == list(range(3, 300))
    assert len(notes) == 1
    with pytest.raises(InputError, match=r"4 of 300 .* more than 1%"):
        sort_out("train", files, dict.fromkeys(files[:4], "cut"))
    with pytest.raises(InputError, match="and 295 more"):
        sort_out("train", files, dict.fromkeys(files, "cut"))


def test_a_class_whose_only_image_is_damaged(photos: Path) -> None:
    (photos / "val" / "emu").mkdir()
    (photos / "val" / "emu" / "a.jpg").write_bytes(b"x")
    shutil.copytree(photos / "train" / "dog", photos / "train" / "emu")
    assert "no image of class 'emu' in" in refusal(photos)


def test_the_check_is_remembered_until_a_file_changes(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_data("folder", path=photos)
    looked: list[str] = []
    look = reading._look

    def watched(root: str, file: str, *more: int) -> reading._Look:
        looked.append(file)
        return look(root, file, *more)

    monkeypatch.setattr(reading, "_look", watched)
    again = load_data("folder", path=photos)
    assert looked == []
    assert again.info == first.info
    assert again.train.fingerprint() == first.train.fingerprint()
    for file in (cache / "checks").iterdir():  # a damaged cache is made again
        file.write_text(file.read_text().replace("RGB", "L").replace("short_side", "side")[:-9])
    assert load_data("folder", path=photos).info == first.info
    assert len(looked) == 36
    looked.clear()
    shutil.copy(photos / "train" / "dog" / "05.jpg", photos / "train" / "cat" / "05.jpg")
    changed = load_data("folder", path=photos)
    assert len(looked) == 24
    assert changed.train.fingerprint() != first.train.fingerprint()
    assert changed.val.fingerprint() == first.val.fingerprint()


def test_a_cache_that_cannot_be_written_is_no_error(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCLD_CACHE", str(photos / "train" / "cat" / "00.jpg"))
    assert len(load_data("folder", path=photos).train) == 24


def test_the_fingerprint_is_of_content_not_of_place(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "copy", copy_function=shutil.copyfile)
    here, there = (load_data("folder", path=path) for path in (photos, tmp_path / "copy"))
    assert here.train.fingerprint() == there.train.fingerprint()


def test_all_grey_images_have_one_channel(photos: Path, write_image: WriteImage) -> None:
    for file in photos.rglob("*.jpg"):
        write_image(file, mode="L")
    data = load_data("folder", path=photos)
    assert (data.info.channels, len(data.info.mean)) == (1, 1)
    assert data.train.images(torch.tensor([0]), torch.tensor([5])).shape == (1, 1, 32, 32)
    write_image(photos / "val" / "cat" / "00.jpg")
    assert load_data("folder", path=photos).info.channels == 3


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_kind_of_pixel_becomes_rgb(mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    result = decode(buffer.getvalue(), "RGB")
    assert result.mode == "RGB"
    assert np.array_equal(np.asarray(result), np.asarray(image.convert("RGB")))


def test_sixteen_bit_grey_is_scaled() -> None:
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024 + 7
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    assert np.array_equal(np.asarray(decode(buffer.getvalue(), "L")), levels // 256)
    assert np.array_equal(np.asarray(decode(buffer.getvalue(), "RGB"))[..., 1], levels // 256)


def test_exif_orientation_is_respected() -> None:
    image = Image.new("RGB", (6, 4), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    assert decode(buffer.getvalue()).size == (4, 6)


def test_real_photos(shared: Path) -> None:
    data = load_data("folder", path=shared / "data" / "clothing", cache="off")
    assert isinstance(data.train, FileSplit)
    assert len(data.info.classes) == 10
    assert data.info.image_size == (96, 96)
    assert data.notes == ()
    assert (
        len(data.train) + len(data.val) + len(load_data("folder", path=shared / "data" / "clothing", val="test").val)
        == 3781
    )
