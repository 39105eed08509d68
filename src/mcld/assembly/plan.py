"""What a run will do, with nothing left to derive; nobody changes it afterwards."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml

from mcld.assembly.choices import choose
from mcld.assembly.limits import check_settings
from mcld.assembly.stores import Places
from mcld.configs.compose import RESOLVED, settings_to_yaml
from mcld.configs.schema import Distill, RunSettings, Train
from mcld.configs.values import leaves, with_values
from mcld.data import DataInfo
from mcld.errors import InputError
from mcld.models import ModelSpec
from mcld.options import places

Settings = TypeVar("Settings", bound=RunSettings)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings in which nothing is open, and what follows from them and from the files that they name.

    ``--cfg job`` prints it, ``config.yaml`` holds it, and a run that goes on has to come to the same one.

    Attributes:
        settings: every one with its value.
        data: the classes, the size and the normalisation of the images.
        images: of the training and the validation data.
        student: the network that is trained.
        teacher: the network to learn from, if any.
        stores: where the teacher's logits are kept.
        notes: what a person should know of how it came about.
        objects: what was given as an object from Python: its class, by role.
    """

    settings: Train | Distill
    data: DataInfo
    images: tuple[int, int]
    student: ModelSpec
    teacher: ModelSpec | None
    stores: Places
    notes: tuple[str, ...]
    objects: Mapping[str, str]

    def facts(self) -> dict[str, Any]:
        """What is no setting, as JSON values; the stores only say where things are."""
        networks = {"student": self.student, "teacher": self.teacher}
        return {
            "classes": [str(name) for name in self.data.classes],
            "channels": self.data.channels,
            "image_size": list(self.data.image_size),
            "images": {"training": self.images[0], "validation": self.images[1]},
            **{
                role: {key: getattr(spec, key) for key in ("architecture", "options", "mean", "std")}
                for role, spec in networks.items()
                if spec is not None
            },
            **({"objects": dict(self.objects)} if self.objects else {}),
        }

    def to_yaml(self) -> str:
        """The content of ``config.yaml``: the settings, and ``resolved`` with the rest."""
        kept = {"training": self.stores.training, "validation": self.stores.validation}
        stores = {kind: str(place.folder) for kind, place in kept.items() if place is not None}
        facts = {RESOLVED: {**self.facts(), "stores": stores}}
        text = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
        return settings_to_yaml(with_absolute_paths(self.settings)) + str(text)


def with_absolute_paths(settings: Settings) -> Settings:
    """The same settings, with files and folders that are the same from every working directory."""
    values = {key: value for key, _, value in leaves(settings) if isinstance(value, str) and value[:1] not in ("", "~")}
    paths = [
        *(f"data.{key}" for key in places(type(settings.data))),
        *(f"{role}.checkpoint" for role in ("model", "teacher", "student")),
    ]
    paths += [key for key in ("model.name", "teacher.name", "student.name") if Path(values.get(key, "")).is_dir()]
    paths += ["teacher.store"] if values.get("teacher.store") not in ("auto", "off") else []
    return with_values(settings, {key: str(Path(values[key]).absolute()) for key in paths if key in values})


def settle(settings: Settings) -> Settings:
    """The settings, with what this machine decides: devices, threads, precision and how to compute.

    Raises:
        InputError: for settings that cannot be right, or a device or precision that this machine does not have.
    """
    check_settings(settings)
    check_devices(settings)
    on_cuda = settings.device in ("auto", "cuda") and torch.cuda.is_available()
    settings = choose(settings)
    if settings.precision == "16-mixed" and not on_cuda:
        raise InputError("precision=16-mixed needs a CUDA device; expected 32 or bf16 here")
    devices, here, _ = processes(settings)
    check_shares(settings.data.batch_size, devices)
    threads = settings.threads
    if threads is None:
        threads = max(1, (os.cpu_count() or 1) // here) if here > 1 else torch.get_num_threads()
    return with_values(settings, {"devices": devices, "threads": threads})


def processes(settings: RunSettings) -> tuple[int, int, int]:
    """How many processes there are, on this machine and how many machines."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return settings.devices, settings.devices, 1
    here = int(os.environ["LOCAL_WORLD_SIZE"])  # torchrun decides
    nodes = int(os.environ["WORLD_SIZE"]) // here
    return here * nodes, here, nodes


def check_devices(settings: RunSettings) -> None:
    """Check that this machine has the devices.

    Raises:
        InputError: when it has not.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: this machine has no CUDA device that PyTorch can use; expected cpu or auto")
    if settings.device == "mps" and not torch.backends.mps.is_available():
        raise InputError("device=mps: this machine has no MPS device; expected cpu or auto")
    on_cuda = settings.device in ("auto", "cuda") and torch.cuda.is_available()
    _, here, _ = processes(settings)
    if on_cuda and here > torch.cuda.device_count():
        raise InputError(f"devices={here}; this machine has {torch.cuda.device_count()} CUDA devices")


def check_shares(batch_size: int, devices: int) -> None:
    """Check that every device gets its share of a batch.

    Raises:
        InputError: when the shares would differ.
    """
    if devices > 1 and batch_size % devices:
        raise InputError(f"data.batch_size={batch_size} cannot be shared equally by {devices} devices")


def default_run_name(settings: Train | Distill, objects: Mapping[str, str]) -> str:
    """A name under ``runs`` that says what the run is."""
    named = {"data": settings.data.name}
    if isinstance(settings, Distill):
        networks = {"teacher": settings.teacher, "student": settings.student}
        named |= {role: Path(network.name).name for role, network in networks.items()}
        named["method"] = settings.method.name
    else:
        named["student"] = Path(settings.model.name).name
    words = ["train" if isinstance(settings, Train) else "distill", *{**named, **objects}.values()]
    return str(Path("runs") / "-".join([*words, f"seed{settings.seed}"]))
