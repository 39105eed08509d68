import io
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcld.data import DataSet, TensorSplit, load_data
from mcld.errors import InputError


def part(count: int = 12, classes: int = 3, shape: tuple[int, ...] = (16, 16, 3)) -> dict[str, Any]:
    images = np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)
    return {"images": images, "labels": np.arange(count) % classes}


def load(folder: Path, train: dict[str, Any], val: dict[str, Any], **options: object) -> DataSet:
    np.savez(folder / "train.npz", **train)
    np.savez(folder / "val.npz", **val)
    return load_data("arrays", train=folder / "train.npz", val=str(folder / "val.npz"), **options)


def test_colour_images(tmp_path: Path) -> None:
    data = load(tmp_path, {**part(), "names": np.array(["a", "b", "c"])}, part(6))
    assert isinstance(data.train, TensorSplit)
    assert data.info.classes == ("a", "b", "c")
    assert (data.info.channels, data.info.image_size, len(data.val)) == (3, (16, 16), 6)
    assert data.train.views.description == "crop 16, padding 2, horizontal flip"
    assert torch.equal(data.train.raw.permute(0, 2, 3, 1), torch.from_numpy(part()["images"]))


def test_grey_images_of_any_shape_and_the_first_classes(tmp_path: Path) -> None:
    data = load(tmp_path, part(12, 3, (9, 7)), part(6, 3, (9, 7)), classes=2, padding=3)
    assert data.info.classes == ("0", "1")
    assert (data.info.channels, data.info.image_size) == (1, (9, 7))
    assert data.train.labels.tolist() == [0, 1] * 4
    assert data.train.views.description == "crop 9x7, padding 3"
    whole = part(12, 3, (9, 7))["images"]
    assert isinstance(data.train, TensorSplit)
    assert torch.equal(data.train.raw[:, 0], torch.from_numpy(whole[np.arange(12) % 3 < 2]))


def with_(**changes: object) -> dict[str, Any]:
    return {**part(), **changes}


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        ({"images": part()["images"]}, part(), "has no labels, only 'images'"),
        ({"x": np.zeros(3)}, part(), "has no images and no labels, only 'x'"),
        (with_(images=part()["images"] / 255), part(), "images in .* are float64"),
        (with_(images=part()["images"][..., :2]), part(), r"are uint8 \(12, 16, 16, 2\)"),
        (with_(images=np.zeros((0, 4, 4), np.uint8), labels=np.zeros(0, int)), part(), r"are uint8 \(0, 4, 4, 1\)"),
        (with_(labels=np.arange(11)), part(), r"labels in .* are int64 \(11,\) for 12 images"),
        (with_(labels=np.arange(12) / 3), part(), r"labels in .* are float64"),
        (with_(labels=np.arange(12) % 3 - 1), part(), "range from -1 to 1; expected 0 to 1"),
        (
            with_(labels=np.arange(12) % 3 * 2),
            part(),
            "do not include 1, 3; expected images of every class from 0 to 4",
        ),
        (part(), part(12, 4), "val.npz range from 0 to 3; expected 0 to 2, as in the training file"),
        (with_(names=np.array(["a", "b"])), part(), "range from 0 to 2; expected 0 to 1, for the 2 classes in names"),
        (with_(names=np.array(["a", "b", "a"])), part(), "holds a name twice"),
        (with_(names=np.array(["a", "b", "c"])), with_(names=np.array(["a", "c", "b"])), "names in .* differ"),
        (part(), part(6, 3, (16, 15, 3)), "are 16×16 with 3 channels .* 16×15 with 3 channels"),
        (part(), part(6, 3, (16, 16)), "with 3 channels .* with 1 channels"),
        (with_(labels=np.array([object()] * 12)), part(), "Python objects, which are never unpickled"),
    ],
)
def test_files_made_otherwise(tmp_path: Path, train: dict[str, Any], val: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        load(tmp_path, train, val)
    assert "\n" not in str(error.value)


def test_padding_beyond_the_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="padding is 17 and images are 16×16 with 3 channels; expected at most their"):
        load(tmp_path, part(), part(), padding=17)
    assert load(tmp_path, part(), part(), padding=16).train.views.count == 33**2 * 2


def test_too_many_classes_wanted_or_none_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="classes is 4 and the data has 3"):
        load(tmp_path, part(), part(), classes=4)
    with pytest.raises(InputError, match="holds no image of the first 2 classes"):
        load(tmp_path, part(), with_(labels=np.full(12, 2)), classes=2)


def test_damaged_or_missing_files(tmp_path: Path) -> None:
    load(tmp_path, part(), part())
    path = tmp_path / "train.npz"
    whole = path.read_bytes()
    np.savez_compressed(tmp_path / "packed.npz", **part())
    packed = bytearray((tmp_path / "packed.npz").read_bytes())
    packed[200] ^= 0xFF
    cases = {"train.npz": whole[:-100], "text.npz": b"hello", "empty.npz": b"", "flipped.npz": bytes(packed)}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name in (*cases, "single.npy", "absent.npz", "."):
        with pytest.raises(InputError) as error:
            load_data("arrays", train=tmp_path / name, val=tmp_path / "val.npz")
        assert "\n" not in str(error.value)
        assert "expected an npz file with images" in str(error.value)


def test_a_real_pack(shared: Path, tmp_path: Path) -> None:
    with np.load(shared / "data" / "cifar10_test1000.npz", allow_pickle=False) as file:
        np.savez(tmp_path / "a.npz", images=file["images"], labels=file["labels"])
    data = load_data("arrays", train=tmp_path / "a.npz", val=tmp_path / "a.npz")
    assert (len(data.info.classes), data.info.image_size, len(data.train)) == (10, (32, 32), 1000)
    assert data.info.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.02)


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def header(shape: tuple[int, ...], dtype: str, data: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


def refused(train: Path, val: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        load_data("arrays", train=train, val=val, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("label", "dtype", "words"),
    [
        (2**62, "int64", "do not include 0, 3, 4, 5, 6 and 4611686018427387897 more; expected images of every class"),
        (2**32 - 1, "uint32", r"from 0 to 4294967295 \(the largest may be a −1\)"),
        (2**64 - 1, "uint64", r"expected images of every class from 0 to 18446744073709551615 \(the largest may be"),
        (2**32 - 1, "int64", r"from 0 to 4294967295 \(the largest may be a −1\)"),
        (255, "uint8", r"do not include 0, 3, 4, 5, 6 and 248 more; .* \(the largest may be a −1\)"),
    ],
)
def test_a_huge_label_takes_no_memory(tmp_path: Path, label: int, dtype: str, words: str) -> None:
    labels = np.array([label] + [1, 2] * 5 + [1], dtype=dtype)
    tracemalloc.start()
    with pytest.raises(InputError, match=words):
        load(tmp_path, with_(labels=labels), part())
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    with pytest.raises(InputError, match=r"val\.npz range from 1 to .*; expected 0 to 2, as in the training file"):
        load(tmp_path, part(), with_(labels=labels))


def test_what_an_array_is_comes_before_its_values(tmp_path: Path) -> None:
    images = header((12, 16, 16, 3), "|u1", bytes(12 * 768))
    good = npz(tmp_path / "good.npz", images=images, labels=header((12,), "<i8", bytes(96)))
    for shape in ((2**40,), (2**62,), (10**30,), (-1,)):
        bad = npz(tmp_path / "bad.npz", images=images, labels=header(shape, "<i8", bytes(96)))
        assert "and is smaller" in refused(bad, good)
        bad = npz(tmp_path / "bad.npz", images=header((*shape, 16, 16), "|u1"), labels=header(shape, "<i8"))
        assert "and is smaller" in refused(good, bad)
    zeros = zlib_bomb(tmp_path / "many.npz", images, header((10**9,), "|u1"))
    assert "labels in" in refused(zeros, good)
    assert "are uint8 (1000000000,) for 12 images" in refused(zeros, good)
    names = npz(
        tmp_path / "n.npz", images=images, labels=header((12,), "<i8", bytes(96)), names=header((2**62,), "<U0")
    )
    assert "names in" in refused(names, good)
    deep = images.replace(b"'shape': (12, 16, 16, 3)", b"'shape': " + b"(" * 15)
    assert "damaged" in refused(npz(tmp_path / "deep.npz", images=deep, labels=images), good)


def zlib_bomb(path: Path, images: bytes, start: bytes, size: int = 10**9) -> Path:
    """Images, and labels that begin so and go on with zeros, a thousandth of the size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("images.npy", images)
        with archive.open("labels.npy", "w", force_zip64=True) as stream:
            stream.write(start)
            for _ in range(size // 10**7):
                stream.write(bytes(10**7))
    return path


def test_a_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as stream:
            stream.write(header((100, 1000, 1000), "|u1"))
            for _ in range(100):
                stream.write(bytes(10**6))
        archive.writestr("labels.npy", header((100,), "|u1", bytes(50) + b"\1" * 50))
    load(tmp_path, part(), part())
    message = refused(tmp_path / "bomb.npz", tmp_path / "val.npz")
    assert "bomb.npz would take 100.0 MB, " in message
    assert message.endswith("times their room in the file; if that is right, set data.max_gb=0.1")
    assert "and validation images" in refused(tmp_path / "bomb.npz", tmp_path / "val.npz", max_gb=0.1)
    assert "take 100.0 MB; expected at most data.max_gb=0.09" in refused(
        tmp_path / "bomb.npz", tmp_path / "val.npz", max_gb=0.09
    )
    assert "'max_gb' is 0.0; expected" in refused(tmp_path / "val.npz", tmp_path / "val.npz", max_gb=0)


def test_more_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, part(), part())
    monkeypatch.setattr("mcld.data.npz.free_memory", lambda: 18_000)
    message = refused(tmp_path / "train.npz", tmp_path / "val.npz")
    assert "train.npz would take 0.0 MB and 0.0 MB of memory are free; if that is enough, set data.max_gb=" in message


def test_a_pipe_is_no_npz_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    assert "pipe.npz: it is a pipe, no file; expected an npz file" in refused(
        tmp_path / "pipe.npz", tmp_path / "pipe.npz"
    )


@pytest.mark.parametrize("names", [np.array([0x110000, 98, 99], np.uint32).view("U1"), np.array([b"\xff", b"b", b"c"])])
def test_names_that_are_no_text(tmp_path: Path, names: Any) -> None:
    with pytest.raises(InputError, match=r"names in .*train\.npz are no text; expected \(K,\) texts"):
        load(tmp_path, {**part(), "names": names}, part())


def test_names_as_bytes_and_composed(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    names = np.array([decomposed.encode(), b"b", b"c"])
    data = load(tmp_path, {**part(), "names": names}, {**part(), "names": np.array([composed, "b", "c"])})
    assert data.info.classes == (composed, "b", "c")
    with pytest.raises(InputError, match="holds a name twice"):
        load(tmp_path, {**part(), "names": np.array([composed, decomposed, "c"])}, part())
