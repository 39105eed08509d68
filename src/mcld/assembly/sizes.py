"""The size of the images: a trained network has one of its own, which is used, or another one is said loudly."""

from collections.abc import Sequence
from typing import TypeVar

from mcld.assembly.network_options import NetworkSettings
from mcld.configs.schema import RunSettings
from mcld.configs.values import with_values
from mcld.errors import InputError
from mcld.evaluation.cost import count_macs
from mcld.models import ModelSpec, find_model
from mcld.models.network import Network, unwrap
from mcld.runs import RunDirectory

Settings = TypeVar("Settings", bound=RunSettings)
_FOR_PHOTOGRAPHS = {
    "ResNet50": "resnet50",
    "vgg": "vgg11_bn",
    "MobileNetV2": "mobilenet_v2",
    "Shuffle": "shufflenet_v2_x1_0",
}
"""What torchvision has in the place of networks whose names begin so; in that of the others resnet18."""


def fit_image_size(settings: Settings) -> tuple[Settings, list[str]]:
    """The settings with ``data.image_size`` as a run among the networks was trained with, unless somebody set it.

    The teacher's counts before the student's, as the student learns from what the teacher says of these images.

    Returns:
        They, and a line for a person when the size was chosen so.

    Raises:
        InputError: for a run directory that cannot be read.
    """
    if getattr(settings.data, "image_size", 0) is not None:
        return settings, []
    for role in ("teacher", "model", "student"):
        network = getattr(settings, role, None)
        if isinstance(network, NetworkSettings) and (size := run_size(network.name)) and size[0] == size[1]:
            line = f"images of {size[0]} px, as {role} {network.name} was trained on; for others: data.image_size=N"
            return with_values(settings, {"data.image_size": size[0]}), [line]
    return settings, []


def run_size(path: str) -> list[int]:
    """[height, width] of the images that a run was trained on; empty for no run, or where it is not known.

    Raises:
        InputError: for a run directory that cannot be read.
    """
    if not RunDirectory.is_run(path):
        return []
    run = RunDirectory.open(path)
    return ModelSpec.from_dict(run.read_json(run.model)).image_size


def common_size(paths: Sequence[str]) -> int | None:
    """The one size that all runs were trained on, where it is one and square."""
    sizes = {tuple(run_size(path)) for path in paths}
    found = sizes.pop() if len(sizes) == 1 else ()
    return found[0] if len(set(found)) == 1 else None


def size_warning(network: Network, who: str, settings: NetworkSettings, image_size: Sequence[int]) -> list[str]:
    """A line when trained weights get images of another size than they know.

    Args:
        network: as it was built for the data, or as it was read from its run.
        who: its role and name.
        settings: where its weights are from.
        image_size: (height, width) of the images that it gets.
    """
    given = _words(image_size)
    if RunDirectory.is_run(settings.name):
        own, how = network.spec.image_size, "was trained on"
    elif settings.checkpoint is not None:
        own, how = _designed_for(network), "does not say what its checkpoint was trained on, and is made for"
    elif settings.pretrained:
        own, how = _published_for(network), "has weights that were trained on"
    else:
        return []
    if not own or list(own) == list(image_size):
        return []
    return [
        f"warning: {who} {how} images of {_words(own)} px and gets {given} px: expect worse answers; data.image_size "
        "chooses where the data have such an option"
    ]


def design_warning(network: Network, who: str, image_size: Sequence[int]) -> list[str]:
    """A line when a network of the CIFAR tables gets photographs: it keeps their resolution, and takes hours for it."""
    made_for, size = _designed_for(network), max(image_size)
    if not made_for or made_for[0] > 64 or size < 2 * made_for[0] or size < 96:
        return []
    macs = count_macs(network.model, (network.spec.in_channels, *image_size)) / 1e6
    usual = count_macs(network.model, (network.spec.in_channels, *made_for)) / 1e6
    architecture = network.spec.architecture
    for_photographs = next((name for start, name in _FOR_PHOTOGRAPHS.items() if architecture.startswith(start)), None)
    return [
        f"warning: {who} is the network {architecture} of the CIFAR tables, made for {made_for[0]} px: an image of "
        f"{_words(image_size)} px takes it {macs:,.0f} MMACs, {macs / usual:,.0f} times as long; for photographs: "
        f"torchvision/{for_photographs or 'resnet18'}"
    ]


def _designed_for(network: Network) -> list[int]:
    try:
        return [find_model(network.spec.architecture).input_size] * 2
    except InputError:  # of timm or torchvision
        return []


def _published_for(network: Network) -> list[int]:
    """What timm or torchvision say of the weights that they publish."""
    library, _, name = network.spec.architecture.partition("/")
    if library == "torchvision":
        from torchvision.models import get_model_weights

        crop = getattr(get_model_weights(name).DEFAULT.transforms(), "crop_size", [])
        return [int(crop[0])] * 2 if crop else []
    known = (getattr(unwrap(network), "pretrained_cfg", None) or {}).get("input_size") or ()
    return [int(side) for side in known[1:]]


def _words(size: Sequence[int]) -> str:
    return "×".join(map(str, size))
