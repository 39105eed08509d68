"""Distil small image classifiers from big ones."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mcld import functional as functional
    from mcld.api import Run as Run
    from mcld.api import distill as distill
    from mcld.api import evaluate as evaluate
    from mcld.api import export as export
    from mcld.api import load as load
    from mcld.api import resume as resume
    from mcld.api import train as train
    from mcld.contrast.info_nce import info_nce as info_nce
    from mcld.distiller import Distiller as Distiller
    from mcld.engine.stop import Interrupted as Interrupted
    from mcld.errors import InputError as InputError
    from mcld.errors import RunError as RunError
    from mcld.exports import Export as Export
    from mcld.images import ImageSpec as ImageSpec
    from mcld.loggers import Logger as Logger
    from mcld.methods import KD as KD
    from mcld.methods import MCLD as MCLD
    from mcld.methods import FeatureMethod as FeatureMethod
    from mcld.methods import LogitMethod as LogitMethod
    from mcld.methods import Method as Method
    from mcld.methods import Outputs as Outputs
    from mcld.methods import Shapes as Shapes
    from mcld.methods import create_method as create_method
    from mcld.models import create_model as create_model
    from mcld.models import load_checkpoint as load_checkpoint
    from mcld.registry import register_data as register_data
    from mcld.registry import register_export as register_export
    from mcld.registry import register_logger as register_logger
    from mcld.registry import register_method as register_method
    from mcld.registry import register_model as register_model

# Where each public name lives. Looked up on first use, so that `from mcld import MCLD` imports torch and nothing else.
_HOME = {
    "Distiller": "mcld.distiller",
    "train": "mcld.api",
    "resume": "mcld.api",
    "load": "mcld.api",
    "evaluate": "mcld.api",
    "export": "mcld.api",
    "distill": "mcld.api",
    "Run": "mcld.api",
    "Export": "mcld.exports",
    "FeatureMethod": "mcld.methods",
    "ImageSpec": "mcld.images",
    "InputError": "mcld.errors",
    "Interrupted": "mcld.engine.stop",
    "RunError": "mcld.errors",
    "KD": "mcld.methods",
    "LogitMethod": "mcld.methods",
    "Logger": "mcld.loggers",
    "MCLD": "mcld.methods",
    "Method": "mcld.methods",
    "Outputs": "mcld.methods",
    "Shapes": "mcld.methods",
    "create_method": "mcld.methods",
    "create_model": "mcld.models",
    "info_nce": "mcld.contrast.info_nce",
    "load_checkpoint": "mcld.models",
    "register_data": "mcld.registry",
    "register_export": "mcld.registry",
    "register_logger": "mcld.registry",
    "register_method": "mcld.registry",
    "register_model": "mcld.registry",
}

__all__ = [
    "KD",
    "MCLD",
    "Distiller",
    "Export",
    "FeatureMethod",
    "ImageSpec",
    "InputError",
    "Interrupted",
    "Logger",
    "LogitMethod",
    "Method",
    "Outputs",
    "Run",
    "RunError",
    "Shapes",
    "__version__",
    "create_method",
    "create_model",
    "distill",
    "evaluate",
    "export",
    "functional",
    "info_nce",
    "load",
    "load_checkpoint",
    "register_data",
    "register_export",
    "register_logger",
    "register_method",
    "register_model",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "functional":
        return importlib.import_module("mcld.functional")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mcld' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
