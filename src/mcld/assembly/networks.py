"""From settings to networks: new ones, or those of run directories."""

import contextlib
import dataclasses
from pathlib import Path

import torch
from torch import nn

from mcld.assembly.network_options import NetworkSettings
from mcld.assembly.objects import needed, wrap
from mcld.assembly.sizes import design_warning, size_warning
from mcld.configs.compose import settings_from_yaml
from mcld.data import DataInfo, check_classes
from mcld.errors import InputError
from mcld.models import fitting_options, load_checkpoint
from mcld.models._digest import spec_digest
from mcld.models._fitting import AUXILIARY
from mcld.models._frozen import cut_head, with_new_head
from mcld.models._outputs import check_images
from mcld.models._reading import read_digests
from mcld.models._registry import check_decided
from mcld.models.checkpoint import LoadReport, Part
from mcld.models.network import ModelSpec, Network, load_weights
from mcld.options import OBJECT
from mcld.plugins import check_plugins
from mcld.runs import RunDirectory
from mcld.teacher import order_warning
from mcld.text import name_of


def build_network(
    settings: NetworkSettings,
    data: DataInfo,
    role: str,
    notes: list[str],
    given: nn.Module | None = None,
    *,
    new_head: bool = False,
) -> Network:
    """A network from a run directory, or a new one, with its weights if it is given any; or the one that is given.

    Args:
        settings: which.
        data: what it has to fit.
        role: ``model``, ``student`` or ``teacher``, for messages.
        notes: gets a line for what a person should know.
        given: a module from Python, for settings that say so.
        new_head: whether a run's network gets a new classifier where the data has other classes.

    Raises:
        InputError: when there is no such run or architecture, or it does not fit the data.
    """
    name = settings.name
    if name == OBJECT:
        network = wrap(needed(role, given), settings, data, role)
    elif RunDirectory.is_run(name):
        if settings.checkpoint or settings.options or settings.pretrained:
            raise InputError(f"{role}={name} is a run directory; it takes no checkpoint, options or pretrained")
        network = load_run(name, settings.weights)
        notes += [f"{role} {weights_line(name, settings.weights)}", *unfinished(name)]
        if new_head and list(network.spec.classes) != list(data.classes):
            notes.append(f"{role} {name}: new head: {network.spec.num_classes:,} → {len(data.classes):,} classes")
            network = with_new_head(network, f"{role} {name}", data.classes)
        if role == "teacher":
            network = _cut(network, data, f"{role} {name}", notes)
        try:
            check_classes(network.spec.classes, data.classes, f"{role} {name}")
        except InputError as error:
            if role != "teacher" or set(network.spec.classes) == set(data.classes):
                raise
            again = f"mcld train model={name} freeze=backbone with this data retrains its last layer"
            raise InputError(f"{error}, or at least these; {again}") from None
    else:
        if Path(name).exists() or (name.count("/") and name.split("/")[0] not in ("timm", "torchvision")):
            what = "is not a run directory" if Path(name).exists() else "does not exist, nor is it a model"
            raise InputError(f"{role}={name} {what}; expected a run directory, or a name from: mcld models")
        if "pretrained" in settings.options:
            raise InputError(
                f"{role}.options.pretrained={settings.options['pretrained']}: expected {role}.pretrained=true or false"
            )
        check_decided(f"{role} {name}", settings.options)
        options = {**settings.options, **({"pretrained": True} if settings.pretrained else {})}
        trained = settings.pretrained or settings.checkpoint is not None
        chosen = fitting_options(name, data.image_size, options, patches=not trained)
        if chosen:
            size = "×".join(map(str, data.image_size))
            words = " ".join(f"{role}.options.{key}={value}" for key, value in chosen.items())
            notes.append(f"{role} {name} for images of {size} px: {words}")
        spec = ModelSpec(
            architecture=name,
            num_classes=len(data.classes),
            in_channels=data.channels,
            mean=list(data.mean),
            std=list(data.std),
            classes=list(data.classes),
            image_size=list(data.image_size),
            options={**options, **chosen},
        )
        network = spec.build()
        if settings.pretrained:
            mean, std = pretrained_normalization(network.model, data.channels)
            network = Network(network.model, dataclasses.replace(spec, mean=mean, std=std))
        if settings.checkpoint is not None:
            report, other = _load_part(network, settings.checkpoint, role)
            notes.append(f"{role}: {report}{other}")
            if report.new_head:
                network = _as_published(network, data, role, notes)
    if network.spec.in_channels != data.channels:
        raise InputError(
            f"{role} {name} takes images of {network.spec.in_channels} channels; data {data.name} has {data.channels}"
        )
    for what, values, least in (("mean", settings.mean, -10.0), ("std", settings.std, 1e-3)):
        if any(not least <= value <= 10 for value in values or ()):
            raise InputError(
                f"{role}.{what}={values}; expected numbers from {least:g} to 10, for images scaled to 0..1: those for "
                "0..255 are to be divided by 255"
            )
    if name != OBJECT and (network.spec.mean, network.spec.std) != (list(data.mean), list(data.std)) and data.ready:
        raise InputError(
            f"data {data.name} is normalised already, and {role} {name} normalises for itself; expected images from 0 "
            "to 1: leave the normalisation out of the transforms"
        )
    if name != OBJECT and (settings.mean or settings.std):
        spec = dataclasses.replace(
            network.spec, mean=settings.mean or network.spec.mean, std=settings.std or network.spec.std
        )
        network = Network(network.model, spec)
    if not RunDirectory.is_run(name) and (settings.checkpoint is not None or settings.pretrained):
        notes += order_warning(f"{role} {name}", data.classes)
    notes += size_warning(network, f"{role} {name}", settings, data.image_size)
    notes += design_warning(network, f"{role} {name}", data.image_size)
    images = torch.zeros(2, data.channels, *data.image_size, dtype=torch.uint8)
    check_images(network, f"{role} {name}", images, len(data.classes), trained=role != "teacher")
    if role != "teacher" and (heads := [part for part in AUXILIARY if getattr(network.model, part, None) is not None]):
        notes.append(f"{role} {name}: its auxiliary classifiers ({', '.join(heads)}) are trained, too (ce_aux)")
    return network


def _cut(network: Network, data: DataInfo, who: str, notes: list[str]) -> Network:
    """A teacher that knows all classes of the data and more, cut to these by their names; else itself.

    Raises:
        InputError: when it does not end with one Linear.
    """
    theirs, ours = ([name_of(name) for name in names] for names in (network.spec.classes, data.classes))
    if len(theirs) <= len(ours) or not set(ours) <= set(theirs) or len(set(theirs)) < len(theirs):
        return network
    some = ", ".join(f"{name} ({theirs.index(name)})" for name in ours[:4])
    more = ", …" if len(ours) > 4 else ""
    notes.append(f"{who}: cut from {len(theirs):,} to {len(ours):,} classes by name, its outputs {some}{more}")
    network.spec.classes = theirs
    return cut_head(network, who, ours)


def _load_part(network: Network, file: str, role: str) -> tuple[LoadReport, str]:
    """Load weights from a file, of two networks in it the one of this role; the other only where there is but one.

    What is trained may get a new head for other classes; a teacher with one would know nothing.
    """
    own: Part = "teacher" if role == "teacher" else "student"
    other: Part = "student" if own == "teacher" else "teacher"
    new = role != "teacher"
    try:
        return load_checkpoint(network.model, file, part=own, new_head=new), ""
    except InputError as error:
        with contextlib.suppress(InputError):
            found = load_checkpoint(network.model, file, part=other, new_head=new)
            return found, f"; it holds a {other} only"
        raise error from None


def _as_published(network: Network, data: DataInfo, role: str, notes: list[str]) -> Network:
    """The network with the normalisation that its published weights expect; for the zoo's the data's own stays.

    A head of other classes says that the weights are of other data, so the normalisation of this data is not theirs.
    """
    if network.spec.architecture.partition("/")[0] not in ("timm", "torchvision") or data.ready:
        return network
    mean, std = pretrained_normalization(network.model, data.channels)
    notes.append(
        f"{role}: normalised as the published weights of {network.spec.architecture} expect, mean "
        f"{', '.join(f'{x:.3g}' for x in mean)}, std {', '.join(f'{x:.3g}' for x in std)}; {role}.mean and {role}.std "
        "choose others"
    )
    return Network(network.model, dataclasses.replace(network.spec, mean=mean, std=std))


def unfinished(path: str) -> list[str]:
    """A line for a person when a run has not come to its end, else none."""
    run = RunDirectory.open(path)
    if run.summary.is_file():
        return []
    epochs = settings_from_yaml(run.config, "schedule").schedule.epochs
    done = len(run.read_metrics()) if run.metrics.is_file() else 0
    return [f"warning: the run {path} is not finished: epoch {done} of {epochs}; go on with it: mcld resume {path}"]


def pretrained_normalization(model: nn.Module, channels: int) -> tuple[list[float], list[float]]:
    """The mean and std that published weights expect: what timm says of them, else ImageNet's.

    For another number of channels than three their average serves for each, as their first convolution was averaged.
    """
    config = getattr(model, "pretrained_cfg", None) or {}
    mean = [float(value) for value in config.get("mean", (0.485, 0.456, 0.406))]
    std = [float(value) for value in config.get("std", (0.229, 0.224, 0.225))]
    if channels != len(mean):
        mean, std = ([sum(values) / len(values)] * channels for values in (mean, std))
    return mean, std


def load_run(path: str, weights: str = "last", model: nn.Module | None = None) -> Network:
    """The trained network of a run directory.

    Args:
        path: of it.
        weights: ``last`` or ``best``.
        model: a module for the weights, for a run whose student was given as an object.

    Raises:
        InputError: when the run has no such weights (yet), or needs a plugin or an object that is not here.
    """
    run = RunDirectory.open(path)
    check_plugins(run.plugins, path, kinds=["model"])
    file = run.weights(weights)
    if not file.is_file():
        raise InputError(f"run {path} has no {weights} weights yet; finish it first: mcld resume {path}")
    spec = ModelSpec.from_dict(run.read_json(run.model))
    spec.temperature = run_temperature(path, weights)
    if spec.architecture.startswith(f"{OBJECT}/"):
        if model is None:
            raise InputError(
                f"the network of run {path} is {spec.architecture.partition('/')[2]}, an object from Python that no "
                f"file can describe; give it one for its weights: mcld.load({path!r}, model=...)"
            )
        network = Network(model.model if isinstance(model, Network) else model, spec)
    else:
        network = spec.build(pretrained=False)
    try:
        load_weights(network.model, file)
    except InputError as error:
        if not any(run.checkpoints.glob("*.ckpt")):
            raise
        raise InputError(f"{error}; the run's checkpoint writes it anew: mcld resume {path}") from error
    return network


def run_temperature(path: str, weights: str = "last") -> float | None:
    """The temperature fitted for the weights of a run; None for no run, and for the best unless they are the last.

    Raises:
        InputError: for a run directory that cannot be read.
    """
    if not RunDirectory.is_run(path):
        return None
    run = RunDirectory.open(path)
    last, asked = run.weights("last"), run.weights(weights)
    if asked != last and not (last.is_file() and read_digests(asked) == read_digests(last) is not None):
        return None
    return ModelSpec.from_dict(run.read_json(run.model)).temperature


def weights_line(path: str, weights: str) -> str:
    """What is known of the weights of a run directory, which were checked when they were read."""
    run = RunDirectory.open(path)
    kept = read_digests(run.weights(weights))
    if kept is None:
        return f"{path}: {weights} weights, without a digest (of an earlier mcld): damage to them would not be noticed"
    line = f"{path}: {weights} weights, sha256 {kept.weights[:16]}, as they were written"
    if kept.spec not in ("", spec_digest(run.read_json(run.model))):
        line += f"; warning: {run.model.name} beside them has changed since (damaged, or edited)"
    return line
