"""Trained networks on other data, side by side."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from mcld.assembly.networks import load_run, unfinished, weights_line
from mcld.assembly.plan import settle
from mcld.commands.run import launch
from mcld.configs.schema import Train
from mcld.data import DataSet, TrainLoader, check_several, eval_batches, load_data
from mcld.display import Display
from mcld.errors import InputError, RunError
from mcld.evaluation.probe import (
    GRID,
    NEIGHBOURS,
    SGD_DECAYS,
    SGD_EPOCHS,
    SGD_LR,
    Labelled,
    linear_sgd,
    nearest_neighbours,
    pooled_features,
    probe,
)
from mcld.features import Features
from mcld.files import atomic_write_text
from mcld.models import Network
from mcld.models._outputs import check_images
from mcld.runs import Owned, RunDirectory
from mcld.runs.environment import describe_environment
from mcld.text import printable

RESULT = "transfer.json"
RESULTS = Owned(
    what="transfer result",
    names=frozenset({RESULT, "table.txt", "log.txt"}),
    marks=frozenset({RESULT}),
    begun=frozenset({"log.txt"}),
)
PROTOCOLS = {
    "probe": "features of the plain images, computed once in evaluation mode; standardised; multinomial logistic "
    f"regression, C from {GRID[0]:g} to {GRID[-1]:g} chosen on a stratified fifth of the training data, then refitted",
    "knn": f"majority of the {NEIGHBOURS} nearest training images by cosine similarity of the same features",
    "sgd": f"a linear layer on frozen features of augmented images, the field's protocol: {SGD_EPOCHS} epochs of SGD, "
    f"÷10 after {', '.join(map(str, SGD_DECAYS))}; our choice where it is silent: lr {SGD_LR:g}, momentum 0.9, "
    "no weight decay",
}


@dataclasses.dataclass
class Candidate:
    """A network to be compared.

    Attributes:
        name: what to call it.
        network: with its weights.
        weights: ``last`` or ``best``; None for one that is untrained.
    """

    name: str
    network: Network
    weights: str | None


def transfer(
    runs: list[str],
    settings: Train,
    *,
    protocols: tuple[str, ...] = ("probe", "sgd"),
    untrained: bool = False,
    force: bool = False,
    display: Display | None = None,
) -> dict[str, Any]:
    """Compare the features of trained networks on other data.

    Args:
        runs: their run directories.
        settings: of these, ``data``, ``device``, ``threads``, ``seed``, ``run`` and ``model.weights`` count.
        protocols: ``probe`` (with nearest neighbours), ``sgd`` or both.
        untrained: also take each architecture with its first weights.
        force: replace an earlier result.
        display: where to print.

    Returns:
        The content of ``transfer.json``; shares are in [0, 1].

    Raises:
        InputError: when a network and the data do not fit, or the result would replace another.
        RunError: when the features of a network are no numbers.
    """
    display = display or Display()
    names = "-".join(Path(run).name for run in runs)
    folder = Path(settings.run or f"runs/transfer-{settings.data.name}-{names}-seed{settings.seed}")
    RESULTS.check_free(folder, force=force)
    if settings.seed >= 2**32:
        raise InputError(f"seed={settings.seed}; expected a number below 2**32 for the probe's split")
    candidates = [Candidate(run, load_run(run, settings.model.weights), settings.model.weights) for run in runs]
    if untrained:
        candidates += _untrained(candidates, settings.seed)
    fabric = launch(settle(settings))
    given = {field.name: getattr(settings.data, field.name) for field in dataclasses.fields(settings.data)}
    data = load_data(**given).to(fabric.device)
    check_several(data.info)
    display.line(
        f"data {data.info.name}: {len(data.train):,} training and {len(data.val):,} validation images, "
        f"{len(data.info.classes)} classes, {'×'.join(map(str, data.info.image_size))} px"
    )
    known = [line for run in runs for line in (weights_line(run, settings.model.weights), *unfinished(run))]
    for note in [*data.notes, *known]:
        display.line(note)
    readers = [_reader(candidate, data, display) for candidate in candidates]
    batch, workers = settings.data.batch_size, settings.data.workers
    loader = None
    if "sgd" in protocols:
        loader = TrainLoader(data.train, batch, settings.seed, device=fabric.device, workers=workers)
    with RESULTS.replacing(folder, force=force) as new:
        display.log = new / "log.txt"
        networks = [
            _measure(candidate, reader, data, loader, settings, fabric, protocols, display)
            for candidate, reader in zip(candidates, readers, strict=True)
        ]
        wanted = [name for name in PROTOCOLS if name in protocols or (name == "knn" and "probe" in protocols)]
        result = {
            "data": data.info.name,
            "images": {"train": len(data.train), "validation": len(data.val)},
            "classes": len(data.info.classes),
            "notes": [printable(note) for note in data.notes],
            "image_size": list(data.info.image_size),
            "views": data.train.views.description,
            "batch_size": settings.data.batch_size,
            "seed": settings.seed,
            "protocols": {name: PROTOCOLS[name] for name in wanted},
            "networks": networks,
            "environment": describe_environment(),
        }
        RunDirectory(new).write_json(new / RESULT, result)
        atomic_write_text(new / "table.txt", "\n".join(table(result)) + "\n")
        for line in ["", *table(result), f"everything is in {folder}"]:
            display.line(line)
    display.log = folder / "log.txt"
    return result


def table(result: dict[str, Any]) -> list[str]:
    """The comparison as lines of text, and what the columns mean."""
    networks = result["networks"]
    columns = {
        "probe": ("probe", "top1"),
        "k-NN": ("knn", "top1"),
        "sgd last": ("sgd", "last"),
        "sgd best": ("sgd", "best"),
    }
    shown = {title: path for title, path in columns.items() if path[0] in result["protocols"]}
    width = max(len(entry["name"]) for entry in networks)
    lines = [f"{'top-1':<{width}}  features  " + "  ".join(f"{title:>8}" for title in shown)]
    for entry in networks:
        values = "  ".join(f"{entry[key][which]:>8.2%}" for key, which in shown.values())
        lines.append(f"{entry['name']:<{width}}  {entry['features']:>8}  {values}")
    count = result["images"]["validation"]
    tops = [entry[key][which] for entry in networks for key, which in shown.values()]
    error = max(math.sqrt(p * (1 - p) / count) for p in tops)
    lines.append(f"on {count:,} validation images: standard error of a figure at most {error:.2%}")
    lines += [f"{name}: {text}" for name, text in result["protocols"].items()]
    if "sgd" in result["protocols"]:
        lines.append(
            f"sgd batches of {result['batch_size']} images, {result['views']}; best: the best epoch, chosen on these "
            "same images"
        )
    return lines


def _untrained(candidates: list[Candidate], seed: int) -> list[Candidate]:
    made: dict[str, Candidate] = {}
    for candidate in candidates:
        spec = candidate.network.spec
        if (key := f"{spec.architecture} {spec.options} {spec.reused}") not in made:
            torch.manual_seed(seed)
            made[key] = Candidate(f"{spec.architecture} untrained", spec.build(pretrained=False), None)
    return list(made.values())


def _reader(candidate: Candidate, data: DataSet, display: Display) -> Features:
    """The features of a network, once it is known to take these images."""
    spec, info = candidate.network.spec, data.info
    if spec.in_channels != info.channels:
        raise InputError(
            f"{candidate.name} takes images of {spec.in_channels} channels; data {info.name} has {info.channels}"
        )
    seen = "×".join(map(str, spec.image_size))
    given = "×".join(map(str, info.image_size))
    who = f"{candidate.name}: {spec.architecture}, trained on {seen or 'unknown'} px,"
    images = torch.zeros(2, info.channels, *info.image_size, dtype=torch.uint8)
    check_images(candidate.network, who, images, spec.num_classes, trained=False)
    features = Features(
        candidate.network, {"logits", "pooled"}, image_size=info.image_size, role=f"{candidate.name}: network"
    )
    if candidate.weights and seen and seen != given:
        display.line(
            f"warning: {candidate.name} was trained on images of {seen} px; these are {given} px", style="yellow"
        )
    return features


def _measure(
    candidate: Candidate,
    features: Features,
    data: DataSet,
    loader: TrainLoader | None,
    settings: Train,
    fabric: Fabric,
    protocols: tuple[str, ...],
    display: Display,
) -> dict[str, Any]:
    fabric.to_device(candidate.network)

    def read(split: Any) -> Labelled:
        batches = eval_batches(split, 256, device=fabric.device, workers=settings.data.workers)
        found = pooled_features(features, batches)
        if not found.features.isfinite().all():
            raise RunError(f"{candidate.name}: its features of these images are NaN or Inf; its weights are broken")
        return found

    val = read(data.val)
    result: dict[str, Any] = {
        "name": candidate.name,
        "architecture": candidate.network.spec.architecture,
        "weights": candidate.weights,
        "features": val.features.shape[1],
    }
    if "probe" in protocols:
        train = read(data.train)
        result["probe"] = dataclasses.asdict(found := probe(train, val, seed=settings.seed))
        result["knn"] = {"top1": nearest_neighbours(train, val), "k": min(NEIGHBOURS, len(train.labels))}
        display.line(
            f"{candidate.name}: probe top-1 {found.top1:.2%} (C {found.C:g}, {found.held_out:.2%} on the held-out part"
            f"{'' if found.converged else ', not converged'}), k-NN {result['knn']['top1']:.2%}"
        )
    if loader is not None:
        with display.bar(SGD_EPOCHS, 0, f"{candidate.name}: sgd") as bar:
            layer = linear_sgd(
                features,
                loader,
                val,
                len(data.info.classes),
                seed=settings.seed,
                after_epoch=lambda: bar.step(len(data.train)),
            )
        result["sgd"] = dataclasses.asdict(layer)
        display.line(
            f"{candidate.name}: sgd top-1 last {layer.last:.2%}, best {layer.best:.2%} (epoch {layer.best_epoch})"
        )
    return result
