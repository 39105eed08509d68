"""scikit-learn's handwritten digits."""

from dataclasses import dataclass

import numpy as np
import torch

from mcld.data._types import DataSet
from mcld.data.memory import tensor_data
from mcld.data.options import DataOptions
from mcld.registry import register_data


@dataclass(frozen=True)
class Digits(DataOptions):
    """Handwritten digits that scikit-learn ships."""


@register_data("digits", "1,797 handwritten digits, 8×8 grey, 10 classes", needs="packaged")
def load(options: Digits) -> DataSet:
    """1,797 digits, 8×8 grey, 0..16 scaled to 0..255; 1,347 to train and 450 to validate.

    The split is fixed: stratified by class, seed 0. Random crops reach 1 pixel of padding; digits are never mirrored.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    packaged = load_digits()
    images = np.rint(packaged.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = packaged.target.astype(np.int64)
    train, val = train_test_split(np.arange(len(labels)), test_size=450, random_state=0, stratify=labels)
    parts = [(torch.from_numpy(images[rows]), torch.from_numpy(labels[rows])) for rows in (train, val)]
    names = [str(digit) for digit in range(10)]
    return tensor_data("digits", names, parts[0], parts[1], padding=1, flip=False, options=options)
