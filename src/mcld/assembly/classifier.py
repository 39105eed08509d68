"""The trained network of a run, for images as they come."""

from typing import Any

from torch import nn

from mcld.assembly.networks import load_run
from mcld.configs.compose import settings_from_yaml
from mcld.data import Preprocessing
from mcld.data.pixels import Depth
from mcld.errors import InputError
from mcld.evaluation.classifier import Classifier
from mcld.models.network import Network
from mcld.options import OBJECT
from mcld.runs import RunDirectory


def load_classifier(path: str, weights: str = "last", model: nn.Module | None = None) -> Classifier:
    """The network of a run with its preprocessing, in evaluation mode.

    Args:
        path: the run directory.
        weights: ``last`` or ``best``.
        model: see :func:`mcld.assembly.networks.load_run`.

    Raises:
        InputError: as there, or when ``model.json`` says no preprocessing that can be.
    """
    network = load_run(path, weights, model)
    spec, doubt, refusal = network.spec, "", ""
    if spec.preprocessing:
        preprocessing = Preprocessing.from_dict(spec.preprocessing)
    else:
        preprocessing = earlier_preprocessing(path, network)
        doubt = (
            f"model.json of {path} is of an earlier mcld and does not say how images are prepared; from its settings "
            f"follows: {preprocessing.description}"
        )
    if {"L": 1, "RGB": 3}.get(preprocessing.mode, spec.in_channels) != spec.in_channels:
        raise InputError(
            f"model.json of {path}: preprocessing has the mode {preprocessing.mode} and the network takes "
            f"{spec.in_channels} channels"
        )
    if settings_from_yaml(RunDirectory.open(path).config, "data").data.name == OBJECT:
        doubt = (
            f"{path} was trained on data from Python, whose transforms are not known here; images are prepared so: "
            f"{preprocessing.description}"
        )
        if not any(spec.mean) and all(value == 1 for value in spec.std):
            doubt, refusal = (
                "",
                (
                    f"{path} was trained on images that its data from Python had normalised, which is not known here; "
                    "expected a call of the network itself, with images as that data gives them"
                ),
            )
    return Classifier(network, preprocessing, doubt=doubt, refusal=refusal).eval()


def earlier_preprocessing(path: str, network: Network) -> Preprocessing:
    """How the plain views of a run were made, for one that does not say it itself.

    Raises:
        InputError: when its ``model.json`` does not even know the size of the images.
    """
    spec = network.spec
    if not spec.image_size:
        raise InputError(f"model.json of {path} does not say the size of the images; expected image_size")
    height, width = spec.image_size
    data: Any = settings_from_yaml(RunDirectory.open(path).config, "data").data
    plain = Preprocessing.to_size(spec.in_channels, (height, width))
    if data.name not in ("folder", "imagenet") or height != width:
        return plain
    bits = getattr(data, "bits", None)
    return Preprocessing(plain.mode, round(height * 256 / 224), plain.crop, None if bits is None else Depth(bits))
