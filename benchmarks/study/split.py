"""The study's data: Tiny-ImageNet at 32 px, split for choosing and for reporting.

    python benchmarks/study/split.py ../shared/data/tiny_imagenet_100c_32px --out data/study --classes 60

Reads the packs PREFIX_train.npz and PREFIX_val.npz. Of each class's training images, in the order of the pack, the
first 300 are for training, the next 50 for choosing settings (validation), and the last 150, with the 50 official
validation images, for the test that is reported. Writes train.npz, val.npz and test.npz to --out, and prints their
SHA-256 digests, so that two machines can see that they measure the same thing.
"""

import argparse
import hashlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TRAIN, VAL = 300, 50
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read_pack(path: Path, classes: int) -> tuple[Arrays, NDArray[np.str_]]:
    """The images (N, 32, 32, 3), labels (N,) and class names of a WebP pack's first classes."""
    with np.load(path, allow_pickle=False) as pack:
        data, offsets, labels, names = pack["data"], pack["offsets"], pack["labels"].astype(np.int64), pack["names"]
    keep = np.flatnonzero(labels < classes)
    images = [Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB") for i in keep]
    return (np.stack([np.asarray(image) for image in images]), labels[keep]), names[:classes]


def ranks_in_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each image, how many images of its class come before it."""
    ranks = np.zeros_like(labels)
    for label in np.unique(labels):
        own = labels == label
        ranks[own] = np.arange(own.sum())
    return ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", help="path of the packs, without _train.npz")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--classes", type=int, default=60)
    given = parser.parse_args()
    (images, labels), names = read_pack(Path(f"{given.prefix}_train.npz"), given.classes)
    (more_images, more_labels), _ = read_pack(Path(f"{given.prefix}_val.npz"), given.classes)
    rank = ranks_in_class(labels)
    train, test = rank < TRAIN, rank >= TRAIN + VAL
    val = ~train & ~test
    given.out.mkdir(parents=True, exist_ok=True)
    splits: dict[str, Arrays] = {
        "train": (images[train], labels[train]),
        "val": (images[val], labels[val]),
        "test": (np.concatenate([images[test], more_images]), np.concatenate([labels[test], more_labels])),
    }
    for name, (own_images, own_labels) in splits.items():
        file = given.out / f"{name}.npz"
        np.savez(file, images=own_images, labels=own_labels, names=names)
        digest = hashlib.sha256(own_images.tobytes() + own_labels.tobytes()).hexdigest()
        print(f"{file}: {len(own_images):,} images of {given.classes} classes, sha256 {digest[:16]}")


if __name__ == "__main__":
    main()
