"""Networks, data and methods that are given from Python, in place of names."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mcld.assembly.network_options import NetworkSettings
from mcld.data import DataInfo, DataSet, check_classes
from mcld.errors import InputError
from mcld.methods import Method
from mcld.models import ModelSpec, Network
from mcld.options import OBJECT


@dataclasses.dataclass(frozen=True)
class Objects:
    """What a run was given as objects; a file cannot describe them, so whoever goes on with it gives them again.

    Attributes:
        data: a data set.
        student: the network that is trained, and with that changed.
        teacher: the network to learn from.
        method: the method.
    """

    data: DataSet | None = None
    student: nn.Module | None = None
    teacher: nn.Module | None = None
    method: Method | None = None

    def describe(self) -> dict[str, str]:
        """The classes of those there are, by role."""
        named: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {role: what.info.name if role == "data" else class_name(what) for role, what in named.items() if what}


NO_OBJECTS = Objects()


def class_name(thing: object) -> str:
    """The name of its class."""
    return type(thing).__qualname__.replace("<locals>.", "")


def needed(role: str, given: Any) -> Any:
    """An object that a run asks for.

    Raises:
        InputError: when nobody gave it.
    """
    if given is None:
        raise InputError(
            f"{role}={OBJECT}: this run was made with an object from Python as {role}, which no file can describe; "
            f"give it again: mcld.resume(RUN, {role}=...)"
        )
    return given


def check_objects(run: str, then: object, given: Mapping[str, str]) -> None:
    """Check that whoever goes on with a run gives the objects that it was started with, and no others.

    Args:
        run: the run directory, for messages.
        then: the class of each object, by role, as its ``config.yaml`` says.
        given: those that are given now.

    Raises:
        InputError: naming those that are missing, or too many.
    """
    wanted = then if isinstance(then, dict) else {}
    if missing := {role: name for role, name in wanted.items() if role not in given}:
        listed = ", ".join(f"{role} ({name})" for role, name in missing.items())
        again = ", ".join(f"{role}=..." for role in wanted)
        raise InputError(
            f"run {run} was started from Python with objects that no file can describe: {listed}; give them again: "
            f"mcld.resume({run!r}, {again})"
        )
    for role in given:
        if role not in wanted:
            raise InputError(f"{role} is given, and run {run} was started with one that it knows by name; leave it out")


def wrap(module: nn.Module, settings: NetworkSettings, data: DataInfo, role: str) -> Network:
    """A module as a network for this data.

    Its images are normalised by ``mean`` and ``std`` of the settings, else by what timm knows of its weights, else as
    the data's own; a :class:`Network` does it as it always does.

    Raises:
        InputError: when it does not take the images, or gives something else than logits of these classes.
    """
    if isinstance(module, Network):
        check_classes(module.spec.classes, data.classes, f"{role} {module.spec.architecture}")
        return module
    known = getattr(module, "pretrained_cfg", None) or {}
    fits = len(known.get("mean") or ()) == data.channels and not data.ready
    spec = ModelSpec(
        architecture=f"{OBJECT}/{class_name(module)}",
        num_classes=len(data.classes),
        in_channels=data.channels,
        mean=list(settings.mean or (known["mean"] if fits else data.mean)),
        std=list(settings.std or (known["std"] if fits else data.std)),
        classes=list(data.classes),
        image_size=list(data.image_size),
    )
    network = Network(module, spec)
    logits = _tried(network, data, role)
    if not isinstance(logits, Tensor) or logits.shape != (2, len(data.classes)):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"{role} {class_name(module)} gives {found} for 2 images; expected logits (2, {len(data.classes)}), one "
            f"for each class of data {data.name}"
        )
    return network


def _tried(network: Network, data: DataInfo, role: str) -> Any:
    """What it gives for two black images, in evaluation mode; it stays as it was."""
    modes = [(part, part.training) for part in network.modules()]
    device = next((value.device for value in network.model.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            return network.to(device).eval()(torch.zeros(2, data.channels, *data.image_size, device=device))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        size = "×".join(map(str, (data.channels, *data.image_size)))
        raise InputError(f"{role} {class_name(network.model)} does not take images of {size}: {reason}") from error
    finally:
        for part, training in modes:
            part.training = training
