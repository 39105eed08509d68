"""A pair of PyTorch data sets as training and validation data."""

import dataclasses
import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from mcld.data._types import DataInfo, DataSet
from mcld.errors import InputError

LOOKED_AT, MEASURED = 64, 512  # images that the digest reads, and that mean and deviation are of


@dataclasses.dataclass(frozen=True)
class OwnViews:
    """The views of a data set that transforms its images itself: the id is the seed of whatever it draws."""

    random: bool
    description: str = "views as the data set draws them"

    @property
    def count(self) -> int | None:
        """None: every seed is one; 1 for validation images."""
        return None if self.random else 1

    @property
    def center(self) -> int:
        """The seed of the view that stands for the image."""
        return 0

    def sample(self, n: int, generator: torch.Generator, position: int = 0) -> Tensor:  # noqa: ARG002
        """Draw n view ids, (n,) int64."""
        if not self.random:
            return torch.zeros(n, dtype=torch.int64)
        return torch.randint(1, 2**62, (n,), generator=generator)


class OwnSplit:
    """A PyTorch data set of (image, label).

    Before an image is read, the random numbers of Python, NumPy and PyTorch are seeded with its index and view id, and
    afterwards they are as before: equal ids give equal images, whatever the transforms draw.

    Args:
        dataset: with a length; images are PIL images, arrays (H, W) or (H, W, channels) uint8, or tensors (channels, H,
            W), uint8 or floating point.
        random: whether to ask for other views of an image in every epoch.
        name: for messages.

    Raises:
        InputError: when it is none.
    """

    def __init__(self, dataset: Any, *, random: bool, name: str) -> None:
        if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise InputError(f"the {name} data is {type(dataset).__name__}; expected a Dataset with a length")
        if len(dataset) == 0:
            raise InputError(f"the {name} data is empty; expected at least one image")
        self.dataset, self.name = dataset, name
        self.views = OwnViews(random)
        self.in_memory = isinstance(dataset, TensorDataset)
        self.labels = _labels(dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def images(self, index: Tensor, view: Tensor) -> Tensor:
        """The views (B, channels, H, W) of the images at ``index`` (B,), on the CPU."""
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            found = [self._image(i, v) for i, v in zip(index.tolist(), view.tolist(), strict=True)]
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
        if len({(image.shape, image.dtype) for image in found}) > 1:
            sizes = sorted({str(tuple(image.shape)) for image in found})
            raise InputError(f"images of the {self.name} data have the shapes {', '.join(sizes[:3])}; expected one")
        return torch.stack(found)

    def _image(self, index: int, view: int) -> Tensor:
        words = hashlib.sha256(f"{index}/{view}".encode()).digest()
        seed = int.from_bytes(words[:4], "little")
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        return as_image(_pair(self.dataset[index], self.name)[0], self.name)

    def fingerprint(self) -> str:
        """A hex digest of the labels and of 64 images."""
        digest = hashlib.sha256(self.labels.numpy().tobytes())
        for image in self.some(LOOKED_AT):
            digest.update(image.numpy().tobytes())
        return digest.hexdigest()

    def some(self, most: int) -> Iterator[Tensor]:
        """Images from all over the data set."""
        for index in np.unique(np.linspace(0, len(self) - 1, most).astype(np.int64)):
            yield self.images(torch.tensor([index]), torch.tensor([self.views.center]))[0]

    def to(self, device: torch.device | str) -> "OwnSplit":  # noqa: ARG002
        """Itself: the images stay where they are."""
        return self

    def with_pool(self, pool: int) -> "OwnSplit":
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError(f"a pool of {pool} views: data that is given as an object draws its views itself")

    def with_second(self, policy: str) -> "OwnSplit":
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError(f"data.second_policy={policy}: data that is given as an object transforms its images itself")


def own_data(train: Dataset[Any], val: Dataset[Any]) -> DataSet:
    """Two PyTorch data sets as one for training.

    Images are scaled to 0..1 and normalised by their own mean and deviation, as with all other data. Floating point
    images that go beyond 0..1 are normalised already, and are taken as they are.

    Raises:
        InputError: when they are no pair of data sets of images and labels.
    """
    splits = OwnSplit(train, random=True, name="training"), OwnSplit(val, random=False, name="validation")
    measured = list(splits[0].some(MEASURED))
    shape = measured[0].shape
    other = next(splits[1].some(1))
    if other.shape != shape:
        raise InputError(
            f"training images have the shape {tuple(shape)}, validation images {tuple(other.shape)}; expected the same"
        )
    images = torch.stack([image.double() / (255 if image.dtype is torch.uint8 else 1) for image in measured])
    if float(images.min()) < -0.01 or float(images.max()) > 1.01:
        mean, std = [0.0] * shape[0], [1.0] * shape[0]
    else:
        mean = [round(float(value), 4) for value in images.mean(dim=(0, 2, 3))]
        std = [round(float(value), 4) or 1.0 for value in images.std(dim=(0, 2, 3))]
    names = [str(name) for name in getattr(_inmost(train), "classes", ())]
    count = int(max(split.labels.max() for split in splits)) + 1
    if len(names) < count:
        names = [str(label) for label in range(count)]
    info = DataInfo(type(_inmost(train)).__name__, tuple(names), shape[0], (shape[1], shape[2]), mean, std)
    return DataSet(info, *splits)


def as_image(image: Any, name: str) -> Tensor:
    """An image as a tensor (channels, H, W), uint8 or float32.

    Raises:
        InputError: when it is none.
    """
    if not isinstance(image, Tensor):
        array = np.asarray(image)
        if array.ndim == 2:
            array = array[..., None]
        if array.dtype != np.uint8 or array.ndim != 3:
            what = f"{type(image).__name__} {array.dtype} {array.shape}"
            raise InputError(f"an image of the {name} data is {what}; expected a PIL image, an array or a tensor")
        return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
    if image.ndim != 3 or not (image.dtype is torch.uint8 or image.is_floating_point()):
        raise InputError(
            f"an image of the {name} data is a tensor {image.dtype} {tuple(image.shape)}; expected (channels, H, W), "
            "uint8 or floating point"
        )
    return image if image.dtype is torch.uint8 else image.float()


def _labels(dataset: Any, name: str) -> Tensor:
    known = _known_labels(dataset)
    if known is None:
        known = [_pair(dataset[index], name)[1] for index in range(len(dataset))]
    try:
        labels = torch.as_tensor([int(label) for label in known], dtype=torch.int64)
    except (TypeError, ValueError) as error:
        raise InputError(f"a label of the {name} data is no number of a class; expected 0, 1, 2, …") from error
    if labels.shape != (len(dataset),) or int(labels.min()) < 0:
        raise InputError(f"the labels of the {name} data are not one class number from 0 for each image")
    return labels


def _known_labels(dataset: Any) -> Sequence[Any] | None:
    """The labels, where the data set says them without reading the images."""
    if isinstance(dataset, Subset):
        known = _known_labels(dataset.dataset)
        return None if known is None else [known[index] for index in dataset.indices]
    if isinstance(dataset, TensorDataset):
        return list(dataset.tensors[1]) if len(dataset.tensors) == 2 else None
    for attribute in ("targets", "labels"):
        found = getattr(dataset, attribute, None)
        if found is not None and not callable(found) and len(found) == len(dataset):
            return list(found)
    return None


def _pair(item: Any, name: str) -> tuple[Any, Any]:
    if isinstance(item, dict) and {"image", "label"} <= item.keys():
        return item["image"], item["label"]
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise InputError(f"an item of the {name} data is {type(item).__name__}; expected (image, label)")
    return item[0], item[1]


def _inmost(dataset: Any) -> Any:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset
