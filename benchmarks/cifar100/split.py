"""CIFAR-100 from its packs: for choosing, for the final runs, and for reporting.

    python benchmarks/cifar100/split.py ../shared/data/cifar100 --out data/cifar100

Of each class's 500 training images, in the order of the packs, the last 50 are set aside for choosing settings. Writes
train.npz (45,000 images), choose.npz (5,000), all.npz (both: 50,000, for the final runs) and test.npz (10,000, for
reporting) to --out, and prints their SHA-256 digests. ``--parts 1`` reads only the first third of the training images,
which is balanced and, with 30 MB, travels by itself; a tenth of each class is set aside then, too.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from study.split import Arrays, ranks_in_class, read_pack

CLASSES = 100


def joined(packs: Sequence[Path]) -> tuple[Arrays, NDArray[np.str_]]:
    """The images and labels of several packs of the same classes, and the class names."""
    parts = [read_pack(pack, CLASSES) for pack in packs]
    images = np.concatenate([images for (images, _), _ in parts])
    labels = np.concatenate([labels for (_, labels), _ in parts])
    return (images, labels), parts[0][1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of train_part1of3.npz, ..., test.npz")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--parts", type=int, default=3, choices=(1, 2, 3), help="how many thirds of the training images"
    )
    given = parser.parse_args()
    (images, labels), names = joined([given.folder / f"train_part{part + 1}of3.npz" for part in range(given.parts)])
    (test_images, test_labels), _ = joined([given.folder / "test.npz"])
    ranks = ranks_in_class(labels)
    counts = np.bincount(labels)
    aside = ranks >= (counts - counts // 10)[labels]
    given.out.mkdir(parents=True, exist_ok=True)
    splits: dict[str, Arrays] = {
        "train": (images[~aside], labels[~aside]),
        "choose": (images[aside], labels[aside]),
        "all": (images, labels),
        "test": (test_images, test_labels),
    }
    for name, (own_images, own_labels) in splits.items():
        file = given.out / f"{name}.npz"
        np.savez(file, images=own_images, labels=own_labels, names=names)
        digest = hashlib.sha256(own_images.tobytes() + own_labels.tobytes()).hexdigest()
        print(f"{file}: {len(own_images):,} images of {CLASSES} classes, sha256 {digest[:16]}")


if __name__ == "__main__":
    main()
