"""One network on one data set."""

import math
import os
from pathlib import Path

import torch

from mcld.assembly.networks import run_temperature
from mcld.assembly.objects import NO_OBJECTS, Objects
from mcld.assembly.parts import build_parts
from mcld.commands.run import describe_network, launch
from mcld.configs.compose import settings_from_yaml
from mcld.configs.schema import Train
from mcld.configs.values import with_values
from mcld.data import DataSet, FileSplit
from mcld.data.folder import Folder, lacks_split
from mcld.data.options import DataOptions
from mcld.display import Display
from mcld.engine.ranks import large_batch, network_outputs
from mcld.errors import InputError, RunError
from mcld.evaluation import measure
from mcld.evaluation.calibration import calibration_error
from mcld.evaluation.classes import Evaluation
from mcld.files import atomic_write_text, home_path
from mcld.models.network import ModelSpec
from mcld.plugins import check_plugins
from mcld.runs import RunDirectory
from mcld.text import csv_text

CONFUSION, CLASSES = "confusion.csv", "classes.csv"
SHOWN = 20
"""Classes that are printed; of more, the worst of them."""


def run_data(path: str | os.PathLike[str]) -> DataOptions:
    """The settings of the data of a run; of its plugins only one that holds data is asked for.

    Raises:
        InputError: when that is not here, or the run cannot be read.
    """
    run = RunDirectory.open(path)
    check_plugins(run.plugins, str(path), kinds=["data"])
    data: DataOptions = settings_from_yaml(run.config, "data").data
    return data


def on_all_images(settings: Train) -> Train:
    """The settings with all images of a folder to evaluate on, where it has no split; its classes are the run's.

    Raises:
        InputError: for a run directory that cannot be read.
    """
    data = settings.data
    if not isinstance(data, Folder) or data.val is not None or data.split is not None:
        return settings
    if not lacks_split(home_path(data.path)):
        return settings
    values: dict[str, object] = {"data.val": "1"}
    if RunDirectory.is_run(settings.model.name) and data.classes is None:
        run = RunDirectory.open(settings.model.name)
        values["data.classes"] = ModelSpec.from_dict(run.read_json(run.model)).classes or None
    return with_values(settings, values)


def evaluate_network(settings: Train, display: Display, objects: Objects = NO_OBJECTS) -> Evaluation:
    """Evaluate ``settings.model`` on the validation data of ``settings.data`` and print what came out.

    Raises:
        RunError: when the answers are no numbers.
        InputError: when the network and the data do not fit.
    """
    parts = build_parts(on_all_images(settings), objects)
    fabric = launch(parts.settings)
    parts = parts.on(fabric.device)
    for line in [*parts.plan.notes, describe_evaluated(parts.data)]:
        display.line(line)
    display.line(describe_network("model", parts.student, parts.data.info))
    logits, split = network_outputs(fabric, parts, fabric.to_device(parts.student)), parts.data.val
    labels = split.labels.to(logits.device)
    columns = (torch.arange(len(split), device=logits.device), labels, logits)
    rows = (torch.split(column, large_batch(settings)) for column in columns)
    accuracy = measure(zip(*rows, strict=True))
    if not math.isfinite(accuracy.loss):
        raise RunError(
            f"{settings.model.name} answers NaN or Inf: its weights are broken, or its normalisation is wrong"
        )
    temperature = run_temperature(settings.model.name, settings.model.weights)
    logits, labels = logits.cpu(), labels.cpu()
    found = Evaluation(
        **vars(accuracy),
        calibration_error=calibration_error(logits, labels),
        temperature=temperature,
        calibrated_error=None if temperature is None else calibration_error(logits.double() / temperature, labels),
        names=[str(name) for name in parts.data.info.classes],
        labels=labels,
        predicted=logits.argmax(dim=1),
    )
    for line in evaluation_lines(found):
        display.line(line)
    return found


def evaluation_lines(found: Evaluation) -> list[str]:
    """What the terminal says of an evaluation."""
    error = f"calibration error {found.calibration_error:.2%} as trained"
    if found.calibrated_error is not None:
        error += f", {found.calibrated_error:.2%} at the temperature {found.temperature:.3g} fitted after training"
    rows = sorted((row for row in found.per_class if row.images), key=lambda row: (row.accuracy, row.name))
    title = "each class" if len(rows) <= SHOWN else f"the {SHOWN} worst of {len(rows)} classes"
    return [
        f"top-1 {found.top1:.2%}, top-5 {found.top5:.2%}, mean per-class {found.balanced:.2%}, "
        f"macro-F1 {found.macro_f1:.2%}, "
        f"cross-entropy {found.loss:.4f} on {found.count:,} images",
        error,
        f"{title}, the worst first:",
        *(f"  {row.accuracy:6.1%}  {row.name} ({row.right:,} of {row.images:,})" for row in rows[:SHOWN]),
    ]


def describe_evaluated(data: DataSet) -> str:
    """A line about the images that are evaluated on: where they are, and how they are shown."""
    split, info = data.val, data.info
    files = isinstance(split, FileSplit)
    where = f"images of {split.root}" if isinstance(split, FileSplit) else "validation images"
    shown = split.views.description if files else f"{'×'.join(map(str, info.image_size))} px"
    return f"data {info.name}: {len(split):,} {where}, {len(info.classes)} classes, {shown}"


def check_out(folder: Path, *, force: bool) -> None:
    """Check that the tables of an evaluation can be written.

    Raises:
        InputError: when the folder is a file or cannot be made, or holds some already.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file; expected a folder for {CONFUSION} and {CLASSES}")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"--out {folder} cannot be made: there is no folder {folder.parent}")
    taken = [name for name in (CONFUSION, CLASSES) if (folder / name).exists()]
    if taken and not force:
        raise InputError(f"{folder / taken[0]} exists already; choose another --out, or replace it with --force")


def write_tables(found: Evaluation, folder: Path) -> list[str]:
    """Write the confusion matrix and the accuracy of each class; lines for a person.

    Raises:
        InputError: when the folder cannot be made.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder} cannot be made: {error.strerror}") from error
    columns = [f"{index} {name}" for index, name in enumerate(found.names)]  # two classes may have one name
    rows = (
        {"is / says": column, **dict(zip(columns, counts, strict=True))}
        for column, counts in zip(columns, found.confusion.tolist(), strict=True)
    )
    atomic_write_text(folder / CONFUSION, csv_text(["is / says", *columns], rows))
    classes = ({**vars(row), "accuracy": f"{row.accuracy:.6f}" if row.images else ""} for row in found.per_class)
    atomic_write_text(folder / CLASSES, csv_text(["name", "images", "right", "accuracy"], classes))
    return [
        f"the confusion matrix: {folder / CONFUSION} (rows: what they are; columns: what the network says)",
        f"the accuracy of each class: {folder / CLASSES}",
    ]
