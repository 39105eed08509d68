"""Data sets, views (what a view id means) and loaders.

>>> from mcld.data import load_data
>>> data = load_data("digits")
>>> data.info.image_size, len(data.info.classes), len(data.train), len(data.val)
((8, 8), 10, 1347, 450)
"""

from mcld.data._classes import check_classes, check_several
from mcld.data._registry import DataEntry, list_data, load_data
from mcld.data._types import Batch, DataInfo, DataSet, Split, Views
from mcld.data.files import FileSplit
from mcld.data.loader import TrainLoader, eval_batches, view_batches
from mcld.data.memory import TensorSplit, tensor_data
from mcld.data.options import DataOptions
from mcld.data.preprocessing import Preprocessing
from mcld.data.views import CropFlip, SeedViews

__all__ = [
    "Batch",
    "CropFlip",
    "DataEntry",
    "DataInfo",
    "DataOptions",
    "DataSet",
    "FileSplit",
    "Preprocessing",
    "SeedViews",
    "Split",
    "TensorSplit",
    "TrainLoader",
    "Views",
    "check_classes",
    "check_several",
    "eval_batches",
    "list_data",
    "load_data",
    "tensor_data",
    "view_batches",
]
