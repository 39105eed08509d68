"""Networks: the zoo of CIFAR distillation, timm and torchvision by name, weights in and out.

Importing this needs torch and safetensors; timm and torchvision are imported when one of their models is asked for.
"""

from mcld.models._registry import ModelEntry, create_model, default_lr, find_model, fitting_options, list_models
from mcld.models._zoo import ZooModel
from mcld.models.checkpoint import LoadReport, load_checkpoint
from mcld.models.network import ModelSpec, Network, load_weights, save_weights

__all__ = [
    "LoadReport",
    "ModelEntry",
    "ModelSpec",
    "Network",
    "ZooModel",
    "create_model",
    "default_lr",
    "find_model",
    "fitting_options",
    "list_models",
    "load_checkpoint",
    "load_weights",
    "save_weights",
]
