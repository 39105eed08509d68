"""The cache of decoded images: the same bits, found again, and never a wrong pixel."""

import logging
import os
import pickle
import shutil
import threading
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from PIL import Image

import mcld.data.decoded as cache_module
from mcld.data import DataSet, FileSplit, TrainLoader, load_data
from mcld.data.decoded import decoded_images
from mcld.data.images import PLAIN
from mcld.errors import InputError
from mcld.files import lock_file


def load(path: Path, cache: str = "on", **options: object) -> DataSet:
    return load_data("folder", path=path, cache=cache, **options)


def all_views(data: DataSet) -> list[torch.Tensor]:
    index = torch.arange(len(data.train))
    seeds = data.train.views.sample(len(index), torch.Generator().manual_seed(3))
    plain = data.val.images(torch.arange(len(data.val)), torch.zeros(len(data.val), dtype=torch.int64))
    return [data.train.images(index, seeds), data.train.images(index, torch.full_like(index, -1)), plain]


def same(a: DataSet, b: DataSet) -> bool:
    return all(torch.equal(x, y) for x, y in zip(all_views(a), all_views(b), strict=True))


def the_file(cache: Path, split: str) -> Path:
    sizes = {path: path.stat().st_size for path in (cache / "decoded").glob("*.pixels")}
    return (max if split == "train" else min)(sizes, key=lambda path: sizes[path])


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: str, *_: object) -> None:
        raise AssertionError(f"{path} was decoded")

    monkeypatch.setattr("mcld.data.files.read_image", read)
    monkeypatch.setattr(cache_module, "read_image", read)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_views_are_the_same_bits_and_nothing_is_decoded_again(
    photos: Path, write_image: object, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    for file in photos.rglob("*.jpg"):
        seed = crc32(f"{file.parent.parent.name}/{file.stem}".encode())  # training and validation differ
        write_image(file, (30 + len(file.name), 41), seed=seed, mode=mode)  # type: ignore[operator]
    without, first = load(photos, "off"), load(photos)
    assert same(without, first)
    assert without.info == first.info
    assert without.train.fingerprint() == first.train.fingerprint()
    assert without.notes == ()
    assert "kept 24 decoded images (" in first.notes[0]
    forbid_decoding(monkeypatch)
    again = load(photos)
    assert again.notes == ()
    assert same(again, first)
    with pytest.raises(AssertionError, match="was decoded"):
        all_views(load(photos, "off"))


@pytest.mark.parametrize(("suffix", "size"), [(".jpg", (330, 410)), (".png", (330, 410)), (".jpg", (1100, 900))])
def test_images_with_more_than_a_crop_needs_are_made_smaller(photos: Path, suffix: str, size: tuple[int, int]) -> None:
    """By a power of two, never below the smallest crop, alike from the files and from the cache; not for validation."""
    for file in list(photos.rglob("*.jpg")):
        pixels = np.random.default_rng(len(file.name)).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(file.with_suffix(suffix))
        if suffix != file.suffix:
            file.unlink()
    without, kept = load(photos, "off", image_size=32), load(photos, image_size=32)
    assert same(without, kept)
    assert isinstance(kept.train, FileSplit)
    assert kept.train.reading.enough == 63
    assert kept.train.decoded is not None
    assert isinstance(kept.val, FileSplit)
    assert kept.val.decoded is not None
    small, whole = kept.train.decoded.read(0), kept.val.decoded.read(0)
    assert small is not None
    assert whole is not None
    factor = 4 if size[0] < 1000 else 8
    assert small.shape == (3, -(-size[1] // factor), -(-size[0] // factor))
    assert whole.shape == (3, size[1], size[0])


def test_every_policy_sees_the_same_image(photos: Path) -> None:
    for policy in ("trivial", "rand"):
        assert same(load(photos, "off", policy=policy), load(photos, policy=policy))


def test_workers_and_pickles_read_it_too(photos: Path) -> None:
    with_, without = load(photos).train, load(photos, "off").train
    batches = [list(TrainLoader(split, 8, 0, workers=2).epoch(0)) for split in (with_, without)]
    assert all(torch.equal(a.image, b.image) for a, b in zip(*batches, strict=True))
    index = torch.arange(5)
    assert torch.equal(pickle.loads(pickle.dumps(with_)).images(index, index), without.images(index, index))


def test_a_changed_file_makes_it_anew(photos: Path, cache: Path, write_image: object) -> None:
    load(photos)
    write_image(photos / "train" / "dog" / "04.jpg", (50, 60), seed=7)  # type: ignore[operator]
    changed = load(photos)
    assert "kept 24" in changed.notes[0]
    assert same(changed, load(photos, "off"))
    shutil.rmtree(photos / "train" / "cat")
    shutil.copytree(photos / "train" / "dog", photos / "train" / "cat")
    assert same(load(photos), load(photos, "off"))
    assert len(list((cache / "decoded").glob("*.pixels"))) == 2  # the old ones are gone


@pytest.mark.parametrize("damage", ["cut", "row", "mark", "empty", "longer"])
def test_a_damaged_file_is_made_anew(photos: Path, cache: Path, damage: str) -> None:
    load(photos)
    file = the_file(cache, "train")
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[-1000:]
    elif damage == "longer":
        data[:0] = b"more"
    elif damage == "empty":
        data.clear()
    else:
        data[-20 if damage == "row" else -cache_module._TAIL.size] ^= 1
    file.write_bytes(data)
    again = load(photos)
    assert "kept 24" in again.notes[0]
    assert same(again, load(photos, "off"))
    assert load(photos).notes == ()


def test_a_flipped_bit_never_becomes_a_pixel(photos: Path, cache: Path) -> None:
    right = all_views(load(photos, "off"))
    load(photos)
    file = the_file(cache, "train")
    data = bytearray(file.read_bytes())
    data[100] ^= 16
    file.write_bytes(data)
    damaged = load(photos)
    assert damaged.notes == ()  # not every pixel is read at the start
    assert all(torch.equal(a, b) for a, b in zip(all_views(damaged), right, strict=True))
    assert not file.exists()
    assert "kept 24" in load(photos).notes[0]


def test_auto_keeps_what_fits(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "free_memory", lambda: 10_000)
    data = load(photos, "auto")
    assert isinstance(data.train, FileSplit)
    assert data.train.decoded is None
    assert "the images would take about 0.1 MB, too much to keep them" in data.notes[0]
    assert not list((cache / "decoded").glob("*.pixels"))
    monkeypatch.undo()
    monkeypatch.setenv("MCLD_CACHE", str(cache))
    data = load(photos, "auto")
    assert isinstance(data.train, FileSplit)
    assert data.train.decoded is not None


def test_a_place_that_cannot_be_written(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCLD_CACHE", str(photos / "train" / "cat" / "00.jpg"))
    data = load(photos, "auto")
    assert "the decoded images cannot be kept: cannot write" in data.notes[0]
    with pytest.raises(InputError, match=r"data\.cache=on: cannot write .*: Not a directory"):
        load(photos)
    with pytest.raises(InputError, match=r"data\.cache=yes; expected auto, on or off"):
        load(photos, "yes")


def test_a_full_disk_leaves_nothing_behind(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    load(photos, "off")
    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in load(photos, "auto").notes[0]
    assert [path.suffix for path in (cache / "decoded").iterdir() if path.suffix != ".lock"] == []


def test_two_processes_at_once_make_one(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    write = cache_module._write

    def counted(*given: object) -> object:
        made.append("")
        return write(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(cache_module, "_write", counted)
    root = str(photos / "train")
    files = sorted(str(path.relative_to(root)) for path in Path(root).rglob("*.jpg"))
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(decoded_images("on", root, files, "RGB", PLAIN))) for _ in "123"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert made == [""]


def test_a_stopped_process_is_not_waited_for_without_end(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load(photos)
    (file,) = (path for path in (cache / "decoded").glob("*.pixels") if path == the_file(cache, "train"))
    file.unlink()
    monkeypatch.setattr(cache_module, "_PATIENCE", 1.5)
    caplog.set_level(logging.WARNING, logger="mcld.data.decoded")
    monkeypatch.setattr(
        logging.getLogger("mcld.data.decoded"), "disabled", False
    )  # some library of another test does it
    with lock_file(file.with_suffix(".lock")):
        data = load(photos, "auto")
        assert "decoded images cannot be kept: process " in data.notes[0]
        assert data.notes[0].endswith("has its lock and gets no further")
        assert "waiting for process" in caplog.text
        with pytest.raises(InputError, match=r"data\.cache=on: process \d+ has its lock and gets no further; end it"):
            load(photos)
    assert same(data, load(photos))


def test_what_a_killed_process_left_is_removed(photos: Path, cache: Path) -> None:
    load(photos, "off")
    (cache / "decoded").mkdir()
    left = cache / "decoded" / ".x.pixels.mcld-ab12cd34.tmp"
    left.write_bytes(b"half")
    load(photos)
    assert not left.exists()


def test_an_image_that_cannot_be_read_is_named(photos: Path) -> None:
    (photos / "train" / "cat" / "03.jpg").write_text("no image")
    files = ["cat/02.jpg", "cat/03.jpg"]
    with pytest.raises(InputError, match=r"cat/03\.jpg: not an image; replace or remove it"):
        decoded_images("on", str(photos / "train"), files, "RGB", PLAIN)
