"""The commands as functions: the same settings, checks and run directories, with objects in place of names."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from torch import nn

from mcld.assembly.classifier import load_classifier
from mcld.assembly.network_options import NetworkSettings
from mcld.assembly.objects import Objects
from mcld.assembly.plan import default_run_name
from mcld.commands.evaluate import evaluate_network, run_data
from mcld.commands.run import resume as resume_run
from mcld.commands.run import start
from mcld.configs.compose import Command, read_values, settings_from
from mcld.configs.expand import expand
from mcld.configs.schema import Train
from mcld.configs.values import with_values
from mcld.data import DataSet
from mcld.data.own import own_data
from mcld.display import Display
from mcld.errors import InputError
from mcld.evaluation.classes import Evaluation
from mcld.evaluation.classifier import Classifier
from mcld.methods import Method
from mcld.options import OBJECT
from mcld.runs import RunDirectory

PathLike: TypeAlias = str | os.PathLike[str]
Data: TypeAlias = PathLike | Mapping[str, Any] | DataSet | tuple[Any, Any]
Net: TypeAlias = PathLike | Mapping[str, Any] | nn.Module
_SHORT = {"epochs": "schedule.epochs", "lr": "schedule.lr", "batch_size": "data.batch_size"}


class Run:
    """A run directory.

    Args:
        path: of it.

    Attributes:
        path: of it.

    Raises:
        InputError: when it is none.
    """

    def __init__(self, path: PathLike, *, _model: nn.Module | None = None) -> None:
        self._directory = RunDirectory.open(path)
        self._model = _model
        self.path = Path(path)

    @property
    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``; shares are in [0, 1]."""
        return self._directory.read_json(self._directory.summary)

    @property
    def metrics(self) -> list[dict[str, float]]:
        """One row for each epoch, as in ``metrics.csv``."""
        return self._directory.read_metrics()

    @property
    def model(self) -> Classifier:
        """The trained network with the weights of the last epoch; see :func:`load`."""
        return load(self.path, model=self._model)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def distill(
    *,
    data: Data,
    student: Net,
    teacher: Net | None = None,
    method: str | Sequence[str] | Mapping[str, Any] | Method = "mcld",
    run: PathLike | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a student with a teacher: ``mcld distill`` from Python.

    Args:
        data: the name of a data set, with its options in a mapping (``{"name": "folder", "path": "photos"}``), or two
            PyTorch data sets of (image, label), for training and validation, whose ``classes``, if any, are the names.
        student: a name from ``mcld models``, a run directory, or a module from images to logits, which is trained in
            place. Images are normalised for it (``student.mean`` and ``student.std`` among the settings say how).
        teacher: likewise; it stays as it is.
        method: the name of a method, several names, a mapping with options, or a method.
        run: the run directory; by default a name under ``runs``.
        epochs: passes over the training data.
        lr: the highest learning rate.
        batch_size: images in one step.
        seed: of the first weights, the order and the views.
        settings: all others, by dotted key, as on the command line: ``{"optimizer.clip": 1.0, "device": "cpu"}``.
        force: replace an existing run directory.
        quiet: print nothing.

    Returns:
        The finished run.

    Raises:
        InputError: for what cannot work; nothing is written then.
        RunError: when the run cannot go on.
        Interrupted: when it was asked to stop; go on with :func:`resume`.
    """
    given = {"data": data, "student": student, "teacher": teacher, "method": method}
    short = {"run": run, "epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed}
    return _fit("distill", given, short, settings, force=force, quiet=quiet)


def train(
    *,
    data: Data,
    model: Net,
    run: PathLike | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a network on labels: ``mcld train`` from Python. The arguments are those of :func:`distill`."""
    short = {"run": run, "epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed}
    return _fit("train", {"data": data, "model": model}, short, settings, force=force, quiet=quiet)


def resume(
    run: PathLike,
    *,
    data: DataSet | tuple[Any, Any] | None = None,
    student: nn.Module | None = None,
    model: nn.Module | None = None,
    teacher: nn.Module | None = None,
    method: Method | None = None,
    quiet: bool = False,
) -> Run:
    """Go on with an interrupted run: ``mcld resume`` from Python.

    Args:
        run: its directory.
        data: the objects that it was started with, if any; ``resolved`` in its ``config.yaml`` says which.
        student: see ``data``.
        model: see ``data``; of a run of :func:`train`.
        teacher: see ``data``.
        method: see ``data``.
        quiet: print nothing.

    Raises:
        InputError: when an object is missing, or what it learns from has changed.
        RunError: when the run cannot go on.
        Interrupted: when it was asked to stop again.
    """
    trained = student if student is not None else model
    objects = Objects(None if data is None else _data_set(data), trained, teacher, method)
    resume_run(str(run), display=_display(quiet), objects=objects)
    return Run(run, _model=trained)


def evaluate(
    model: Net, *, data: Data | None = None, settings: Mapping[str, Any] | None = None, quiet: bool = True
) -> Evaluation:
    """Measure a network on the validation images of a data set: ``mcld evaluate`` from Python.

    Args:
        model: a run directory, a module, or a mapping such as ``{"name": "resnet20", "checkpoint": "FILE"}``.
        data: as for :func:`distill`; by default what the run was trained with.
        settings: ``device``, ``model.weights``, ``data.batch_size`` …
        quiet: print nothing.

    Raises:
        InputError: when the network and the data do not fit.
        RunError: when the answers are no numbers.
    """
    if data is None:
        if not isinstance(model, str | os.PathLike) or not RunDirectory.is_run(model):
            raise InputError("data is not given; expected data=NAME, or a run directory to evaluate on its own data")
        then = run_data(model)
        if then.name == OBJECT:
            raise InputError(f"the run {model} was made with data from Python; give it again: data=(train, val)")
        data = vars(then)
    asked, objects = _asked({"data": data, "model": model}, settings)
    chosen = settings_from("train", asked)
    assert isinstance(chosen, Train)
    known: NetworkSettings = chosen.model
    if not (known.name == OBJECT or RunDirectory.is_run(known.name) or known.checkpoint or known.pretrained):
        raise InputError(f"model {known.name!r} is no run directory and has no weights; expected a run or a checkpoint")
    return evaluate_network(chosen, _display(quiet), objects)


def export(
    run: PathLike,
    *,
    format: str,
    out: PathLike | None = None,
    weights: str = "last",
    preprocess: bool = True,
    threads: int | None = None,
    force: bool = False,
    quiet: bool = False,
    data: DataSet | tuple[Any, Any] | None = None,
    model: nn.Module | None = None,
    teacher: nn.Module | None = None,
) -> Path:
    """Write a run's network for other software: ``mcld export`` from Python.

    Args:
        run: its directory.
        format: ``onnx``, ``onnx-int8``, ``openvino``, ``torch``, ``safetensors``, ``repdistiller``, or one of your own.
        out: the folder for the files; by default ``export`` in the run directory.
        weights: ``last`` or ``best``.
        preprocess: whether the normalisation is part of the export.
        threads: of the CPU for the measurements.
        force: replace files that are there.
        quiet: print nothing.
        data: the objects that the run was made with, if any.
        model: see ``data``: another network of the same class, which gets the weights.
        teacher: see ``data``.

    Returns:
        The file; beside it ``FILE.json`` has what was measured.

    Raises:
        InputError: for what cannot be exported, and for files that are there.
        RunError: when the export does not answer as the network does; nothing is written then.
    """
    from mcld.commands.export import export_run

    return export_run(
        os.fspath(run),
        format,
        out=None if out is None else os.fspath(out),
        weights=weights,
        preprocess=preprocess,
        threads=threads,
        force=force,
        objects=Objects(None if data is None else _data_set(data), model, teacher),
        tell=_display(quiet).line,
    )


def load(run: PathLike, *, weights: str = "last", model: nn.Module | None = None) -> Classifier:
    """The trained network of a run: a module from images (uint8, or floating point from 0 to 1) to logits.

    Its ``predict`` takes photos of any size, as paths, PIL images, arrays or tensors, one or many.

    Args:
        run: its directory.
        weights: ``last`` or ``best``.
        model: for a student that was given as a module: another of the same class, which gets the weights.

    Raises:
        InputError: when there are no such weights.

    Example:
        >>> import mcld
        >>> network = mcld.load("runs/small")  # doctest: +SKIP
        >>> network.spec.classes  # doctest: +SKIP
        >>> network.predict("photo.jpg").label  # doctest: +SKIP
    """
    return load_classifier(str(run), weights, model)


def _fit(
    command: Command,
    given: Mapping[str, Any],
    short: Mapping[str, Any],
    settings: Mapping[str, Any] | None,
    *,
    force: bool,
    quiet: bool,
) -> Run:
    named = {_SHORT.get(key, key): value for key, value in short.items() if value is not None}
    if "run" in named:
        named["run"] = str(named["run"])
    for key in settings or {}:
        if key in named and key != "seed":
            raise InputError(f"settings: {key} is given twice; expected it once")
    asked, objects = _asked(given, {**named, **(settings or {})})
    chosen = settings_from(command, asked)
    path = chosen.run or default_run_name(chosen, objects.describe())
    start(with_values(chosen, {"run": path}), force=force, display=_display(quiet), objects=objects)
    return Run(path, _model=objects.student)


def _asked(given: Mapping[str, Any], settings: Mapping[str, Any] | None) -> tuple[dict[str, Any], Objects]:
    """Values by key, and the objects among them."""
    asked: dict[str, Any] = {}
    objects: dict[str, Any] = {}
    for role, value in given.items():
        key = f"{role}.name"
        if isinstance(value, str | os.PathLike):
            asked[key] = str(value)
        elif isinstance(value, Mapping):
            asked[role] = dict(value)
        elif role == "method" and isinstance(value, Sequence):
            asked[key] = "+".join(map(str, value))
        elif value is not None:
            asked[key] = OBJECT
            objects["student" if role == "model" else role] = _checked(role, value)
    for key, value in (settings or {}).items():
        if not isinstance(key, str):
            raise InputError(f"settings: {key!r} is no name of a setting; expected one such as 'optimizer.clip'")
        asked[key] = value
    if "published" in asked or "recipe" in asked:
        command: Command = "train" if "model" in given else "distill"
        asked = read_values(command, expand(command, asked), asked) | asked
    return asked, Objects(**objects)


def _checked(role: str, value: Any) -> Any:
    if role == "data":
        return _data_set(value)
    kind: type = Method if role == "method" else nn.Module
    if not isinstance(value, kind):
        what = "a method, its name or several names" if role == "method" else "a name, a run directory or a module"
        raise InputError(f"{role} is {type(value).__name__}; expected {what}")
    return value


def _data_set(data: Any) -> DataSet:
    if isinstance(data, DataSet):
        return data
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError(
            f"data is {type(data).__name__}; expected the name of a data set, a mapping, or two data sets of PyTorch: "
            "(train, val)"
        )
    return own_data(data[0], data[1])


def _display(quiet: bool) -> Display:
    return Display(Console(quiet=True), brief=True) if quiet else Display()
