"""Which files are read as images: those of the formats that are listed, and nothing else."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, features

from mcld.data import load_data
from mcld.data.formats import formats, is_image, suffixes
from mcld.data.images import Reading, decode, read_image
from mcld.errors import InputError

WriteImage = Callable[..., None]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n"


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*given: object, **more: object) -> None:
        raise AssertionError("another program would be started")

    monkeypatch.setattr("subprocess.Popen", started)
    monkeypatch.setattr("subprocess.check_call", started)
    monkeypatch.setattr("os.system", started)
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)


def test_formats_that_start_programs_are_never_tried(photos: Path, no_programs: None) -> None:
    assert not {"EPS", "WMF", "IPTC", "GRIB", "BUFR", "HDF5", "FITS", "MPEG"} & set(formats())
    victim = photos / "train" / "cat" / "03.jpg"
    victim.write_bytes(EPS)
    data = load_data("folder", path=photos)
    assert any("skipped 1 of 24 images, which cannot be read: cat/03.jpg (not an image)" in note for note in data.notes)
    with pytest.raises(InputError, match=r"03\.jpg: not an image; replace or remove it"):
        read_image(str(victim), "RGB")
    victim.rename(victim.with_suffix(".eps"))
    assert len(load_data("folder", path=photos).train) == 23


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "TGA", "JPEG2000", "PCX", "QOI"])
def test_formats_that_are_read(form: str, no_programs: None) -> None:
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {form}, and the file to read is made here")
    data = encoded(form)
    image = decode(data, "RGB", name="a.TGA" if form == "TGA" else "a.img")
    assert image.size == (10, 12)
    if form not in ("JPEG", "GIF", "JPEG2000"):
        assert np.array_equal(np.asarray(image), np.asarray(decode(encoded("PNG"), "RGB")))


@pytest.mark.parametrize("form", ["avif", "webp"])
def test_formats_that_pillow_may_lack(form: str) -> None:
    there = form.upper() in Image.OPEN and features.check(form)
    assert (f".{form}" in suffixes()) == there
    if there:
        assert decode(encoded(form.upper()), "RGB").size == (10, 12)


def test_heic_where_its_reader_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif (mcld[heif]) is not installed")
    assert ".heic" in suffixes()
    heif.register_heif_opener()
    (tmp_path / "a.heic").write_bytes(encoded("HEIF"))
    assert read_image(str(tmp_path / "a.heic"), "RGB").size == (10, 12)


def test_a_text_is_no_tga_and_no_image(tmp_path: Path) -> None:
    header = bytes([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 24, 0])  # of a TGA of one pixel
    (tmp_path / "table.dat").write_bytes(header + b"abc")
    assert not is_image(str(tmp_path / "table.dat"))
    assert read_image(str(write(tmp_path / "pixel.tga", header + b"abc")), "RGB").getpixel((0, 0)) == (99, 98, 97)
    assert not is_image(str(write(tmp_path / "notes", b"P5 is what this line begins with")))
    assert not is_image(str(tmp_path / "absent"))
    os.mkfifo(tmp_path / "pipe")
    assert not is_image(str(tmp_path / "pipe"))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_decompression_bomb_is_one_line(photos: Path) -> None:
    bomb = photos / "train" / "cat" / "03.png"
    Image.new("1", (20_000, 10_000)).save(bomb)  # 200 million pixels in 30 kB
    said = r"too large: .*200000000 pixels.* expected at most 178 million, or set data\.max_megapixels"
    with pytest.raises(InputError, match=said) as error:
        read_image(str(bomb), "RGB")
    assert "\n" not in str(error.value)
    data = load_data("folder", path=photos, cache="off")
    assert len(data.train) == 24
    assert any("skipped 1 of 25 images" in note and "cat/03.png (too large" in note for note in data.notes)
    assert decode(bomb.read_bytes(), "L", Reading(megapixels=201)).size == (20_000, 10_000)


def test_a_smaller_limit(photos: Path) -> None:
    Image.new("RGB", (1001, 1000)).save(photos / "train" / "cat" / "03.png")
    data = load_data("folder", path=photos, max_megapixels=1)
    assert any("(too large: 1001×1000 pixels; expected at most 1 million, or set" in note for note in data.notes)
    assert len(load_data("folder", path=photos).train) == 25
    with pytest.raises(InputError, match="option 'max_megapixels' is 0; expected 1 to 1,000,000"):
        load_data("folder", path=photos, max_megapixels=0)


def test_an_image_as_narrow_as_a_line_is_no_image(photos: Path) -> None:
    Image.new("L", (100_000, 3)).save(photos / "train" / "cat" / "03.png")  # 256 px high it would take 2 GB
    Image.new("L", (3000, 3)).save(photos / "train" / "cat" / "04.png")
    data = load_data("folder", path=photos, image_size=8)
    assert len(data.train) == 25
    assert any(
        "(too narrow: 100000×3 pixels; expected sides that differ by at most 1,000 times)" in n for n in data.notes
    )


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    with file.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(InputError, match=r"it has 1,099,511,627,776 bytes; .*set data\.max_megapixels"):
        read_image(str(file))


def test_imagenet_layout(tmp_path: Path, write_image: WriteImage) -> None:
    for split in ("train", "Validation"):
        for number in range(2):
            for i in range(3):
                write_image(tmp_path / split / f"n0000000{number}" / f"{i}.JPEG", seed=i)
    bomb = tmp_path / "train" / "n00000001" / "bomb.png"
    Image.new("1", (20_000, 10_000)).save(bomb)
    with pytest.raises(InputError, match=r"bomb\.png: too large") as error:  # all are decoded, to be kept
        load_data("imagenet", path=tmp_path)
    assert "\n" not in str(error.value)
    bomb.unlink()
    (bomb.parent / "link.JPEG").symlink_to(tmp_path / "nowhere")
    data = load_data("imagenet", path=tmp_path)
    assert len(data.train) == 6
    assert "skipped 1 of 7 images" in data.notes[0]
    assert "n00000001/link.JPEG (No such file or directory)" in data.notes[0]


@pytest.mark.parametrize("form", ["TIFF", "GIF", "PNG", "WEBP"])
def test_of_several_pages_or_frames_the_first_is_used_and_said(photos: Path, form: str) -> None:
    if form not in formats():
        pytest.skip(f"this Pillow has no {form}")
    shades = [Image.new("RGB", (36, 36), (shade,) * 3) for shade in (200, 20)]
    file = photos / "train" / "cat" / f"00a.{form.lower()}"
    told: list[str] = []
    shades[0].save(file)
    read_image(str(file), "RGB", told=told.append)
    assert not any("hold several" in note for note in load_data("folder", path=photos, image_size=24).notes)
    assert told == []
    shades[0].save(file, save_all=True, append_images=shades[1:])
    found = load_data("folder", path=photos, image_size=24)
    said = "1 of 25 images hold several pictures (pages, or frames of an animation), of which the first is used"
    assert f"{photos / 'train'}: {said}: cat/{file.name}" in found.notes
    assert np.abs(np.asarray(read_image(str(file), "RGB", told=told.append)).astype(int) - 200).max() <= 3
    assert told == [f"{file} holds several pictures (pages, or frames of an animation); the first is used"]


def test_previews_and_layers_are_no_further_pictures(photos: Path) -> None:
    shades = [Image.new("RGB", (36, 36), (shade,) * 3) for shade in (200, 20)]
    shades[0].save(photos / "train" / "cat" / "00a.mpo", save_all=True, append_images=shades[1:])
    shades[0].save(photos / "train" / "cat" / "00b.ico", sizes=[(32, 32), (16, 16)])
    assert not any("hold several" in note for note in load_data("folder", path=photos, image_size=24).notes)
