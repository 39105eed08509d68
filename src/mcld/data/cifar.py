"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), in the official Python format."""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcld.data._types import DataSet
from mcld.data.download import Archive, locate
from mcld.data.memory import tensor_data
from mcld.data.options import DataOptions
from mcld.errors import InputError
from mcld.files import read_file
from mcld.options import File
from mcld.registry import register_data

_SITE = "https://www.cs.toronto.edu/~kriz/"
_CIFAR10 = Archive(
    "CIFAR-10",
    f"{_SITE}cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
    "cifar-10-batches-py",
    "data_batch_1 to data_batch_5, test_batch and batches.meta",
)
_CIFAR100 = Archive(
    "CIFAR-100",
    f"{_SITE}cifar-100-python.tar.gz",
    "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-python",
    "train, test and meta",
)
# The constants of the field's recipes: statistics of the training images.
_STATS10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_BYTES = 2**29  # the largest official file has 155 MB
_STATS100 = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


@dataclass(frozen=True)
class Cifar(DataOptions):
    """CIFAR-10 or CIFAR-100.

    Attributes:
        path: the folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``; by default a folder of the user's
            cache.
        download: fetch it when it is not there.
    """

    path: File | None = None
    download: bool = True


@register_data("cifar100", "60,000 photos, 32×32, 100 classes", needs="downloaded")
@register_data("cifar10", "60,000 photos, 32×32, 10 classes", needs="downloaded")
def load(options: Cifar) -> DataSet:
    """CIFAR-10 or CIFAR-100: padding 4 and flip, the field's normalisation, the official test images to validate.

    The files are pickles; they are read by an unpickler that can build NumPy arrays and nothing else.

    Raises:
        InputError: when files are missing, damaged, or hold something else.
    """
    hundred = options.name == "cifar100"
    archive = _CIFAR100 if hundred else _CIFAR10
    folder = locate(archive, options.path, options.download)
    training = ["train"] if hundred else [f"data_batch_{part}" for part in range(1, 6)]
    meta, key, names_key = (
        ("meta", "fine_labels", "fine_label_names") if hundred else ("batches.meta", "labels", "label_names")
    )
    absent = [file for file in [*training, "test" if hundred else "test_batch", meta] if not (folder / file).is_file()]
    if absent:
        raise InputError(f"{folder} lacks {', '.join(absent)}; expected {archive.layout}")
    names = _entry(folder / meta, names_key)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{folder / meta} has no list {names_key!r}; expected the official file of {archive.title}")
    parts = [_images(folder / file, key, len(names)) for file in training]
    return tensor_data(
        options.name,
        names,
        (torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts])),
        _images(folder / ("test" if hundred else "test_batch"), key, len(names)),
        padding=4,
        flip=True,
        options=options,
        stats=_STATS100 if hundred else _STATS10,
    )


def _images(path: Path, key: str, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    content = _content(path)
    data, labels = content.get("data"), content.get(key)
    if (
        not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == 3072)
        or not isinstance(labels, list)
        or not 0 < len(labels) == len(data)
    ):
        raise InputError(
            f"{path} is laid out otherwise; expected 'data' (N, 3072) uint8 and a list {key!r} of length N"
        )
    if not all(isinstance(label, int) and 0 <= label < classes for label in labels):
        raise InputError(f"{path} has labels outside 0 to {classes - 1}, for the {classes} classes of the meta file")
    return torch.from_numpy(data.reshape(-1, 3, 32, 32).copy()), torch.tensor(labels, dtype=torch.int64)


def _entry(path: Path, key: str) -> Any:
    return _content(path).get(key)


def _content(path: Path) -> dict[str, Any]:
    try:
        data = read_file(path, _BYTES)
        content = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # a damaged pickle can fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is truncated or damaged ({reason}); delete its folder and fetch it again") from None
    if isinstance(content, dict) and any(isinstance(v, np.ndarray) and v.nbytes > len(data) for v in content.values()):
        raise InputError(f"{path} has an array larger than the file; expected the official file")
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; expected the official file, a dictionary")
    return content


class _ArraysOnly(pickle.Unpickler):
    """Builds plain Python values and NumPy arrays; any other global, so any code, is refused."""

    _ALLOWED = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy._core.numeric", "_frombuffer"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """The allowed global of that name.

        Raises:
            InputError: for any other.
        """
        current = module.replace("numpy.core", "numpy._core", 1)  # renamed in NumPy 2; both names occur in files
        if (current, name) not in self._ALLOWED:
            raise InputError(f"wants to run {module}.{name}; expected plain arrays, and nothing was run")
        return super().find_class(current, name)
