"""``mcld predict`` and ``mcld.load(RUN).predict``: the pixels of evaluation, for images as they come."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mcld as package
from mcld.assembly.classifier import load_classifier
from mcld.data import FileSplit, Preprocessing, eval_batches, load_data
from mcld.evaluation.classifier import Classifier

Mcld = Callable[..., tuple[int, str, str]]


def draw(folder: Path, split: str, mode: str, count: int = 6) -> None:
    """Photographs of several sizes and kinds: two classes, dark and bright."""
    rng = np.random.default_rng(len(split))
    for name, low in (("bright", 120), ("dark", 0)):
        place = folder / split / name
        place.mkdir(parents=True)
        for number in range(count):
            size = (40 + 3 * number, 60 - 2 * number, 3)
            pixels = rng.integers(low, low + 130, size).astype(np.uint8)
            picture = Image.fromarray(pixels).convert(mode)
            picture.save(place / f"{number}.{'jpg' if number % 2 else 'png'}", exif=_turned() if number == 1 else b"")


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


@pytest.fixture(scope="session", params=["RGB", "L"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained on such photographs, in colour and in grey: its run directory, the photographs beside it."""
    from mcld.cli.main import main

    folder = tmp_path_factory.mktemp("photos")
    for split in ("train", "val"):
        draw(folder / "photos", split, request.param)
    words = ["data=folder", f"data.path={folder / 'photos'}", "data.batch_size=6", "data.workers=0", "data.cache=off"]
    more = ["model=resnet8", "model.options.width=4", "schedule.epochs=3", "threads=1", f"run={folder / 'run'}"]
    assert main(["train", *words, *more]) == 0
    return folder / "run"


def photos(run: Path) -> Path:
    return run.parent / "photos" / "val"


def prepared(run: Path) -> tuple[Any, torch.Tensor]:
    """The validation split, and its images as evaluation shows them."""
    split = load_data("folder", path=str(photos(run).parent)).val
    return split, torch.cat([batch.image for batch in eval_batches(split, workers=0)])


def test_pixels_and_probabilities_are_those_of_evaluation(run: Path) -> None:
    network = package.load(run)
    split, images = prepared(run)
    files = [Path(split.root, file) for file in split.files]
    assert torch.equal(torch.stack([network.prepare(file) for file in files]), images)
    with torch.no_grad():
        shares = (network(images).double() / network.spec.temperature).softmax(dim=1)
    found = network.predict(files, top=2)
    assert [answer.index for answer in found] == shares.argmax(dim=1).tolist()
    assert [answer.probability for answer in found] == pytest.approx(shares.amax(dim=1).tolist(), abs=1e-6)
    assert [answer.label for answer in found] == [network.spec.classes[answer.index] for answer in found]
    right = sum(answer.index == label for answer, label in zip(found, split.labels.tolist(), strict=True))
    assert right / len(files) == package.evaluate(run).top1
    assert sum(share for _, share in found[0].top) == pytest.approx(1)  # of two classes


def test_one_image_in_every_form_gives_the_same(run: Path) -> None:
    network = package.load(run)
    file = photos(run) / "dark" / "0.png"
    expected = network.prepare(file)
    picture = Image.open(file)
    array = np.asarray(picture)
    planes = torch.from_numpy(array.copy())
    planes = planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1)
    for form in (str(file), picture, array, planes):
        assert torch.equal(network.prepare(form), expected)
    whole = network.predict(str(file))
    many = network.predict(np.stack([array.reshape(*array.shape[:2], -1)] * 2))
    assert [answer.label for answer in many] == [whole.label] * 2
    assert network.predict([]) == []
    floats = network.prepare(planes / 255)
    assert floats.is_floating_point()
    assert (floats * 255 - expected.float()).abs().max() < 2
    assert network.predict([planes / 255, planes])[0].label == whole.label
    other = "L" if picture.mode == "RGB" else "RGB"
    assert network.prepare(picture.convert(other)).shape == expected.shape  # turned to what the network takes
    assert network.prepare(picture.convert("RGBA")).shape == expected.shape
    training = package.load(run).train()
    training.predict(file)
    assert training.training


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((9, 9, 5), np.uint8), "an image is an array of shape (9, 9, 5); the network takes (height, width, "),
        (torch.zeros(5, 9, 9), "an image is a tensor of shape (5, 9, 9); the network takes ("),
        (np.zeros((2, 0, 9, 3), np.uint8), "an image is an array of shape (0, 9, 3); the network takes"),
        (np.zeros((9, 9), np.int64), "an image is an array of int64; expected uint8, or floating point from 0 to 1"),
        (3, "an image is int; expected a path, a PIL image, an array or a tensor"),
        ("https://x.org/a.jpg", "https://x.org/a.jpg is an address; expected a file"),
        ("gone.jpg", "cannot read gone.jpg: No such file or directory"),
    ],
)
def test_what_is_no_image_is_one_line(run: Path, image: Any, said: str) -> None:
    with pytest.raises(package.InputError) as error:
        package.load(run).predict(image)
    assert str(error.value).startswith(said)


def test_numbers_that_are_no_pixels(run: Path) -> None:
    network = package.load(run)
    shape = (network.spec.in_channels, 9, 9)
    with pytest.raises(package.InputError, match=r"floats from -1 to -1; expected 0 to 1: the network normalises"):
        network.predict(torch.full(shape, -1.0))
    with pytest.raises(package.InputError, match=r"a tensor of torch\.int64; expected uint8"):
        network.predict(torch.zeros(shape, dtype=torch.int64))
    with pytest.raises(package.InputError, match="top is 0; expected at least 1"):
        network.predict(torch.zeros(shape), top=0)


def test_files_folders_patterns_and_lists(mcld: Mcld, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = photos(run)
    status, out, err = mcld("predict", str(run), str(place), "--top", "1")
    assert (status, err, out.count("\n")) == (0, "", 12)
    assert out.splitlines()[0].startswith(f"{place}/bright/0.png: ")
    status, pattern, _ = mcld("predict", str(run), f"{place}/dark/*.png", "--json")
    rows = [json.loads(line) for line in pattern.splitlines()]
    assert [row["file"] for row in rows] == [f"{place}/dark/{n}.png" for n in (0, 2, 4)]
    assert rows[0]["class"] == rows[0]["top"][0]["class"]
    assert rows[0]["probability"] >= rows[0]["top"][1]["probability"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{place}/dark/0.png\n\n{place}/bright\n"))
    status, out, err = mcld("predict", str(run), "-", "--csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert (status, err, len(table)) == (0, "", 7)
    assert list(table[0]) == ["file", "class", "probability", "class_2", "probability_2", "error"]
    assert table[0]["class"] == rows[0]["class"]
    assert float(table[0]["probability"]) == pytest.approx(rows[0]["probability"], abs=1e-6)


def test_many_files_come_in_order(run: Path, tmp_path: Path) -> None:
    """More than are in memory at a time, with one among them that is none."""
    network = load_classifier(str(run))
    source = photos(run) / "dark" / "0.png"
    files = [str(source) if n % 50 else str(tmp_path / f"gone{n}") for n in range(201)]
    found = list(network.stream(files, top=1))
    assert [file for file, _ in found] == files
    assert [n for n, (_, answer) in enumerate(found) if isinstance(answer, package.InputError)] == [
        0,
        50,
        100,
        150,
        200,
    ]


def test_what_cannot_be_read_is_told_and_skipped(mcld: Mcld, run: Path, tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_text("words")
    shutil.copy(photos(run) / "dark" / "0.png", tmp_path / "odd\x1b[2J.png")
    status, out, err = mcld("predict", str(run), "no.jpg", "odd\x1b[2J.png", "gone.jpg")
    assert status == 1
    assert out.startswith("odd\\x1b[2J.png: ")
    assert err.splitlines() == [
        "mcld: skipped: cannot read the image no.jpg: not an image; replace or remove it",
        "mcld: skipped: cannot read gone.jpg: No such file or directory",
        "mcld: skipped 2 of 3 images",
    ]
    status, out, _ = mcld("predict", str(run), "no.jpg", "odd\x1b[2J.png", "--json")
    first, second = map(json.loads, out.splitlines())
    assert status == 1
    assert first == {"file": "no.jpg", "error": "cannot read the image no.jpg: not an image; replace or remove it"}
    assert second["file"] == "odd\x1b[2J.png"
    status, out, err = mcld("predict", str(run), "no.jpg")
    assert (status, out, err.splitlines()[-1]) == (2, "", "mcld: no image was read")


def test_of_several_pages_the_first_counts_and_that_is_told_once(
    mcld: Mcld, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = Image.open(photos(run) / "dark" / "0.png")
    page.save(tmp_path / "one.tif")
    for name in ("a.tif", "b.tif"):
        page.save(tmp_path / name, save_all=True, append_images=[Image.new(page.mode, page.size, "white")])
    status, out, _ = mcld("predict", str(run), "one.tif", "a.tif", "b.tif")
    assert status == 0
    assert len({line.partition(": ")[2] for line in out.splitlines()}) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "a.tif holds several pictures (pages, or frames of an animation); the first is used, here and in others alike"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "a.jpg"], "nowhere: no such run directory"),
        (["RUN"], "the following arguments are required: IMAGES; see: mcld predict --help"),
        (["RUN", "https://x.org/a.jpg"], "https://x.org/a.jpg is an address; expected files"),
        (["RUN", "none/*.jpg"], "none/*.jpg fits no file"),
        (["RUN", "."], ". holds no image that mcld reads; expected .jpg, .png or other image files"),
        (["RUN", "a.jpg", "--top", "0"], "--top 0; expected at least 1"),
        (["RUN", "a.jpg", "--weights", "first"], "weights='first'; expected 'last' or 'best'"),
        (["RUN", "a.jpg", "--device", "abacus"], "--device abacus: expected auto or one that PyTorch can use here"),
        (["RUN", "a.jpg", "--json", "--csv"], "argument --csv: not allowed with argument --json"),
    ],
)
def test_a_wrong_command_is_one_line(mcld: Mcld, run: Path, words: list[str], said: str) -> None:
    status, out, err = mcld("predict", *[str(run) if word == "RUN" else word for word in words])
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"mcld: {said}")


def test_a_run_of_an_earlier_version(mcld: Mcld, run: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(run, tmp_path / "old"))
    values = json.loads((old / "model.json").read_text())
    (old / "model.json").write_text(
        json.dumps({k: v for k, v in values.items() if k not in ("preprocessing", "temperature")})
    )
    network = package.load(old)
    with pytest.warns(UserWarning, match="does not say how images are prepared; from its settings follows: resize 37"):
        network.predict(photos(run) / "dark/0.png")
    assert network.preprocessing == package.load(run).preprocessing
    status, _, err = mcld("predict", "old", str(photos(run) / "dark/0.png"))
    assert status == 0
    assert "from its settings follows" in err
    assert "no temperature was fitted for the last weights of old" in err
    (old / "model.json").write_text(json.dumps({**values, "preprocessing": {**values["preprocessing"], "mode": "P"}}))
    status, _, err = mcld("predict", "old", "a.jpg")
    assert (status, err) == (2, "mcld: preprocessing: mode is 'P'; expected RGB, L or an empty text\n")


def test_images_in_memory_of_their_size_stay_as_they_are(teacher: Path, arrays: list[str], tmp_path: Path) -> None:
    network = package.load(teacher)
    given = dict(word.removeprefix("data.").split("=") for word in arrays)
    split = load_data("arrays", train=given["train"], val=given["val"]).val
    everything = torch.arange(len(split))
    images = split.images(everything, torch.full_like(everything, split.views.center))
    for number in range(5):
        Image.fromarray(images[number].permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
        assert torch.equal(network.prepare(tmp_path / f"{number}.png"), images[number])
    assert network.prepare(Image.new("RGB", (30, 20))).shape == (3, 8, 8)


@pytest.mark.parametrize("size", [(24, 32), (100, 50), (50, 100), (7, 200), (31, 24)])
def test_views_that_are_no_squares_are_covered(size: tuple[int, int]) -> None:
    white = Image.new("L", (size[1], size[0]), 255)
    view = Preprocessing.to_size(1, (24, 32)).render(white)
    assert view.shape == (1, 24, 32)
    assert int(view.min()) == 255


def test_data_from_python_is_said_or_refused(mcld: Mcld, tmp_path: Path) -> None:
    def pairs(scale: float) -> list[tuple[torch.Tensor, int]]:
        return [(scale * torch.rand(3, 8, 8), number % 2) for number in range(12)]

    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    quick: dict[str, Any] = {"epochs": 1, "batch_size": 6, "settings": {"threads": 1, "data.workers": 0}, "quiet": True}
    small = {"name": "resnet8", "options": {"width": 2}}
    for name, scale in (("plain", 1.0), ("ready", 5.0)):
        package.train(data=(pairs(scale), pairs(scale)), model=small, run=name, **quick)
    status, _, err = mcld("predict", "plain", "a.png")
    assert status == 0
    assert "whose transforms are not known here; images are prepared so: resize 8, center crop 8, RGB" in err
    status, _, err = mcld("predict", "ready", "a.png")
    assert (status, "had normalised, which is not known here; expected a call of the network itself" in err) == (
        2,
        True,
    )
    with pytest.raises(package.InputError, match="had normalised"):
        package.load("ready").predict("a.png")


def test_channels_that_no_file_has() -> None:
    from mcld.models import ModelSpec

    network = ModelSpec("resnet8", 2, 5, mean=[0.5] * 5, std=[0.5] * 5, options={"width": 2}).build()
    classifier = Classifier(network, Preprocessing.to_size(5, (8, 8)))
    assert classifier.predict(np.zeros((9, 9, 5), np.uint8)).label in ("0", "1")
    with pytest.raises(package.InputError, match="takes 5 channels, which no image file has"):
        classifier.predict("photo.png")


def test_the_clothing_photographs(mcld: Mcld, shared: Path) -> None:
    """Real photographs of many sizes: 60 of them get the pixels of evaluation."""
    folder = shared / "data" / "clothing"
    data = load_data("folder", path=str(folder), image_size=64, cache="off", val="test")
    split = data.val
    assert isinstance(split, FileSplit)
    index = torch.arange(0, len(split), max(1, len(split) // 60))
    images = split.images(index, torch.full_like(index, split.views.center))
    from mcld.models import ModelSpec

    spec = ModelSpec("resnet8", 10, 3, mean=list(data.info.mean), std=list(data.info.std), options={"width": 2})
    classifier = Classifier(spec.build(), data.info.plain)
    for place, expected in zip(index.tolist(), images, strict=True):
        assert torch.equal(classifier.prepare(Path(split.root, split.files[place])), expected)
