"""Values of more than 8 bits: scaled by what the files hold, all images of a data set alike, or refused by name."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mcld.data import DataSet, FileSplit, load_data
from mcld.data.images import Reading, decode
from mcld.data.pixels import Depth, Peak, depth_of
from mcld.errors import InputError

RAMP = np.arange(64, dtype=np.float64).reshape(8, 8) / 63


def encoded(values: object, form: str = "TIFF") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(values)).save(buffer, form)
    return buffer.getvalue()


def grey(values: object, form: str = "TIFF", depth: Depth | None = None) -> list[int]:
    return np.asarray(decode(encoded(values, form), "L", Reading(depth))).flatten().tolist()


def test_floats_from_0_to_1_and_from_0_to_255() -> None:
    right = np.rint(RAMP * 255).astype(int).flatten().tolist()
    assert grey(RAMP.astype(np.float32)) == right
    assert grey((RAMP * 255).astype(np.float32)) == right
    assert grey(np.asarray(RAMP * 0.9, np.float32), depth=Depth(unit=False)) == [0] * 36 + [1] * 28


def test_integers_of_32_bits() -> None:
    ramp = np.arange(64, dtype=np.int32).reshape(8, 8)
    assert grey(ramp * 4) == [4 * i for i in range(64)]
    assert grey(ramp * 1040) == [1040 * i // 256 for i in range(64)]


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_bits_in_a_png_of_16(bits: int) -> None:
    values = (RAMP * (2**bits - 1)).astype(np.uint16)
    assert grey(values, "PNG") == (values.flatten() // 2 ** (bits - 8)).tolist()
    assert len(set(grey(values, "PNG"))) == 64
    dark = (values // 8).astype(np.uint16)  # of a set whose brightest image has so many bits
    assert grey(dark, "PNG", Depth(bits)) == (dark.flatten() // 2 ** (bits - 8)).tolist()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((4, 4), 70000, np.int32), "its integers are from 70000 to 70000; expected values from 0 to 65535"),
        (np.full((4, 4), -3, np.int32), "its integers are from -3 to -3"),
        (np.full((4, 4), 4000, np.float32), "its floats are from 4000 to 4000; expected values from 0 to 1 or"),
        (np.full((4, 4), -0.5, np.float32), "its floats are from -0.5 to -0.5"),
        (np.full((4, 4), np.nan, np.float32), "its floats are NaN or Inf"),
    ],
)
def test_values_without_a_meaning_are_refused(values: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(encoded(values), "L")


def test_the_depth_that_fits() -> None:
    assert [depth_of(Peak(integer=n)).bits for n in (255, 256, 1023, 4095, 4096, 16384, 65535)] == [
        *(8, 10, 10, 12, 14, 16, 16)
    ]
    assert [depth_of(Peak(real=x)).unit for x in (0.5, 1.0, 1.0005, 1.1, 255)] == [True, True, True, False, False]
    with pytest.raises(InputError, match=r"data\.bits=11; expected one of 8, 10, 12, 14, 16"):
        depth_of(Peak(), 11)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of 2 classes of 16-bit PNGs that hold 12 bits; all but one image are dark."""
    for split in ("train", "val"):
        for c, name in enumerate(("cat", "dog")):
            folder = tmp_path / "scans" / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                bright = 4000 if (split, c, i) == ("train", 1, 3) else 900
                (folder / f"{i}.png").write_bytes(encoded((RAMP * bright).astype(np.uint16), "PNG"))
    return tmp_path / "scans"


def plain(data: DataSet, index: int) -> torch.Tensor:
    return data.train.images(torch.tensor([index]), torch.tensor([-1]))[0, 0]


@pytest.mark.parametrize("cache", ["on", "off"])
def test_all_images_of_a_set_are_scaled_alike(scans: Path, cache: str) -> None:
    data = load_data("folder", path=scans, image_size=7, cache=cache)
    assert f"{scans}: grey values reach 4,000 and are taken for 12 bits (data.bits)" in data.notes
    assert plain(data, 7).max() > 200
    assert 40 < plain(data, 0).max() <= 900 // 16
    sixteen = load_data("folder", path=scans, image_size=7, cache=cache, bits=16)
    assert plain(sixteen, 7).max() <= 4000 // 256
    assert isinstance(data.train, FileSplit)
    assert data.train.fingerprint() != sixteen.train.fingerprint()
    assert data.info.mean != sixteen.info.mean
    assert torch.equal(plain(load_data("folder", path=scans, image_size=7, cache="on"), 3), plain(data, 3))


def test_one_image_of_other_values_is_skipped_and_named(scans: Path) -> None:
    (scans / "val" / "cat" / "1.tif").write_bytes(encoded(np.full((8, 8), 99999, np.int32)))
    data = load_data("folder", path=scans)
    assert any("skipped 1 of 9 images, which cannot be read: cat/1.tif (its integers are" in n for n in data.notes)


def test_floats_of_a_set(scans: Path) -> None:
    for i, file in enumerate(sorted(scans.rglob("*.png"))):
        file.unlink()
        file.with_suffix(".tif").write_bytes(encoded((RAMP * (200 if i == 3 else 0.7)).astype(np.float32)))
    data = load_data("folder", path=scans, image_size=7, cache="off")
    assert f"{scans}: floats reach 200 and are taken for values from 0 to 255" in data.notes
    assert plain(data, 0).max() == 1


def test_colour_of_16_bits_of_which_12_are_used(scans: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def png(brightest: int) -> bytes:  # Pillow writes none of 16 bits and colour
        pixels = np.repeat((RAMP * brightest).astype(">u2")[..., None], 3, 2)
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + body

    for file in scans.rglob("*.png"):
        file.write_bytes(png(65535))
    data = load_data("folder", path=scans, image_size=7)
    assert (data.info.channels, int(plain(data, 0).max()) > 200) == (3, True)
    for file in scans.rglob("*.png"):
        file.write_bytes(png(4095))
    with pytest.raises(InputError, match=r"has colour images of 16 bits with values up to 4095 only.*save them with 8"):
        load_data("folder", path=scans)
    assert plain(load_data("folder", path=scans, bits=16, image_size=7), 0).max() <= 15
