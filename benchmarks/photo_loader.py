"""Photographs as training batches: mcld's loader against torchvision's ImageFolder and DataLoader.

    python benchmarks/photo_loader.py --images 512 --repeats 5

Both show JPEGs of 400×533 px as random resized crops (0.35 to 1 of the area), mirrored half of the time, normalised
(by mcld in the main process, as its networks do it), in batches of 64, with as many worker processes each; mcld from
the files (data.cache=off) and from its decoded images (data.cache=on). Starting the workers is left out (a first
batch is taken before the clock starts). Afterwards one process says where the time of an image goes, stage by stage,
beside what decoding alone takes in libjpeg-turbo (by Pillow), which no loader that decodes whole files can be faster
than.
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from _harness import RESULTS, ratios, spread, write_results
from _runs import BATCH, judge
from mcld.data import FileSplit, SeedViews, TrainLoader, load_data
from mcld.data.images import decode
from mcld.data.views import to_pixels

SIZES = (32, 64, 224, 384)
TARGETS = {"files": 1.5, "cache": 3.0}  # at 224 px; elsewhere 1
SCALE = 0.35
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_photos(folder: Path, images: int) -> None:
    """Smooth noise as JPEGs of about 45 kB, half of them upright, of two classes, the same in val as far as needed."""
    generator = np.random.default_rng(0)
    for number in range(images + 2):
        part = "train" if number < images else "val"
        place = folder / part / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        size = (533, 400) if number % 2 else (400, 533)
        picture = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        picture += generator.integers(-8, 9, picture.shape, dtype=np.int16)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg", quality=88)


def torchvision_loader(folder: Path, size: int, workers: int) -> DataLoader[Any]:
    """As torchvision's own training scripts read a folder."""
    steps = [
        transforms.RandomResizedCrop(size, scale=(SCALE, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    photos = ImageFolder(str(folder / "train"), transforms.Compose(steps))
    return DataLoader(photos, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def seconds_per_image(batches: Iterator[Any]) -> float:
    """Over all batches but the first, of which only the arrival is waited for."""
    next(batches)
    start, images = time.perf_counter(), 0
    for batch in batches:
        images += len(batch)
    return (time.perf_counter() - start) / images


def compare(folder: Path, size: int, given: argparse.Namespace) -> dict[str, Any]:
    """Time the sides in turn, and print how many times as fast as torchvision's loader mcld's are."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    loaders = {
        name: TrainLoader(
            load_data("folder", path=folder, image_size=size, scale=SCALE, cache=cache).train,
            BATCH,
            seed=0,
            workers=given.workers,
        )
        for name, cache in (("files", "off"), ("cache", "on"))
    }
    theirs = torchvision_loader(folder, size, given.workers)
    seconds: dict[str, list[float]] = {}
    for epoch in range(given.repeats + 1):
        sides: dict[str, Iterator[Any]] = {"torchvision": (images for images, _ in theirs)}
        for name, loader in loaders.items():
            sides[name] = (batch.image.float().div_(255).sub_(mean).div_(std) for batch in loader.epoch(epoch))
        for name, batches in sides.items():
            found = seconds_per_image(batches)
            if epoch:
                seconds.setdefault(name, []).append(found)
    result: dict[str, Any] = {"seconds per image": seconds}
    print(f"\n{size} px, {given.workers} workers")
    for name, times in seconds.items():
        print(f"  {name:<12} {spread([1 / value for value in times], 'images/s')}")
    for name in loaders:
        times_as_fast = ratios(seconds["torchvision"], seconds[name])
        target = TARGETS[name] if size == 224 else 1.0
        verdict = judge(f"  from {name}, × torchvision", statistics.median(times_as_fast), target, at_most=False)
        result[name] = {"ratios": times_as_fast, "verdict": verdict}
    return result


def stages(folder: Path, size: int) -> dict[str, float]:
    """Milliseconds of one image in each stage, in this process, by its own clock: others do not count."""
    kept = load_data("folder", path=folder, image_size=size, scale=SCALE, cache="on").train
    assert isinstance(kept, FileSplit)
    assert isinstance(kept.views, SeedViews)
    assert kept.decoded is not None
    views, decoded, reading = kept.views, kept.decoded, kept.reading
    files = [os.path.join(kept.root, file) for file in kept.files[:64]]  # noqa: PTH118
    blobs = [Path(file).read_bytes() for file in files]
    pictures = [decode(blob, "RGB", reading) for blob in blobs]
    pixels = [to_pixels(picture) for picture in pictures]
    numbers = range(len(files))

    def libjpeg(number: int) -> None:
        Image.open(io.BytesIO(blobs[number])).load()

    crop = transforms.RandomResizedCrop(size, scale=(SCALE, 1.0))
    steps: dict[str, Callable[[int], object]] = {
        "read the file": lambda n: Path(files[n]).read_bytes(),
        "libjpeg-turbo alone (Pillow)": libjpeg,
        "decode": lambda n: decode(blobs[n], "RGB", reading),
        "picture to tensor": lambda n: to_pixels(pictures[n]),
        "read from the cache": decoded.read,
        "crop, resize, flip": lambda n: views.render(pixels[n], n, 7),
        "the same by Pillow (torchvision)": lambda n: crop(pictures[n]),
    }
    found: dict[str, float] = {}
    print(f"\n{size} px, one process, per image")
    for name, step in steps.items():
        rounds = []
        for _ in range(7):
            start = time.thread_time()
            for number in numbers:
                step(number)
            rounds.append((time.thread_time() - start) / len(files))
        found[name] = statistics.median(rounds[1:]) * 1e3
        print(f"  {name:<34} {found[name]:6.3f} ms")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(given).items() if k != "results"}}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        os.environ["MCLD_CACHE"] = f"{place}/cache"
        make_photos(folder, given.images)
        for size in given.sizes:
            result[f"{size} px"] = compare(folder, size, given)
            result[f"{size} px"]["stages in ms"] = stages(folder, size)
    write_results("photo-loader", result, given.results)


if __name__ == "__main__":
    main()
