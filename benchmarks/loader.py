"""Training batches alone: mcld's loader against PIL with torchvision's transforms, image by image.

    python benchmarks/loader.py --images 50000 --slow-images 5000 --repeats 5

Both shuffle, crop (padding 4), mirror and normalise images in the shape of CIFAR and give float batches of 64. PIL runs
in the process itself and with one and two worker processes; its best is what counts. It reads fewer images, since it
would take minutes; starting its workers is left out (a first batch is taken before the clock starts). Before anything
is timed, both are checked to give the same bits for the same crop and flip.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision.transforms import functional as V

from _harness import RESULTS, ratios, spread, write_results
from _runs import BATCH, SIZE, judge, made_up_images, photo_loader
from mcld.assembly.parts import Parts, build_parts
from mcld.configs.compose import compose
from mcld.data import CropFlip, TensorSplit, TrainLoader
from mcld.models import Network

TARGET = 8.0


def check_same(split: TensorSplit, network: Network, count: int = 1000) -> None:
    """Check that both sides give the same bits for the same crops and flips, all kinds of them.

    Raises:
        AssertionError: when they do not.
    """
    views = split.views
    assert isinstance(views, CropFlip)
    assert views.count is not None
    index, view = torch.arange(count) % len(split), torch.arange(count) % views.count
    ours = network.normalize(split.images(index, view))
    mean, std = network.spec.mean, network.spec.std
    for row, (i, v) in enumerate(zip(index.tolist(), view.tolist(), strict=True)):
        image = Image.fromarray(split.raw[i].permute(1, 2, 0).contiguous().numpy())
        corner, flipped = divmod(v, 2)
        top, left = divmod(corner, 2 * views.padding + 1)
        image = V.crop(V.pad(image, [views.padding]), top, left, SIZE, SIZE)
        theirs = V.normalize(V.to_tensor(V.hflip(image) if flipped else image), mean, std)
        assert torch.equal(ours[row], theirs), f"image {i} differs in view {v}"
    print(f"{count:,} images over all {views.count} views: the same bits on both sides")


def seconds_per_image(batches: Any) -> float:
    """Over all batches but the first, of which only the arrival is waited for."""
    iterator = iter(batches)
    next(iterator)
    start, images = time.perf_counter(), 0
    for image in iterator:
        images += len(image)
    return (time.perf_counter() - start) / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--slow-images", type=int, default=5_000, help="that PIL reads")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    result: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(given).items() if k != "results"}}

    def prepare(images: int) -> Parts:
        with tempfile.TemporaryDirectory() as folder:
            return build_parts(compose("train", [*made_up_images(Path(folder), images), "model=resnet8"]))

    many, few = prepare(given.images), prepare(given.slow_images)
    assert isinstance(many.data.train, TensorSplit)
    check_same(many.data.train, many.student)
    loader = TrainLoader(many.data.train, BATCH, seed=0)
    seconds: dict[str, list[float]] = {}
    for _ in range(given.repeats):
        sides: dict[str, Any] = {"mcld": (many.student.normalize(batch.image) for batch in loader.epoch(0))}
        for workers, name in enumerate(("PIL", "PIL, 1 worker", "PIL, 2 workers")):
            sides[name] = (image for image, _ in photo_loader(few, workers))
        for name, batches in sides.items():
            seconds.setdefault(name, []).append(seconds_per_image(batches))
    for name, times in seconds.items():
        print(f"{name:<15} {spread([1 / t for t in times], 'images/s')}")
    best = min(list(seconds)[1:], key=lambda name: statistics.median(seconds[name]))
    found = ratios(seconds[best], seconds["mcld"])
    print(f"{'ratio':<15} {spread(found, '×')}, to {best}")
    verdict = judge("loader", statistics.median(found), TARGET, at_most=False)
    result |= {"seconds per image": seconds, "best of PIL": best, "ratios": found, "verdict": verdict}
    write_results("loader", result, given.results)


if __name__ == "__main__":
    main()
