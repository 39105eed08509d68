"""One run from its settings to its summary."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric

from mcld.assembly.choices import describe_choices
from mcld.assembly.frozen import on_features
from mcld.assembly.objects import NO_OBJECTS, Objects, check_objects
from mcld.assembly.parts import Parts, build_parts
from mcld.assembly.plan import default_run_name, processes, settle
from mcld.assembly.stores import with_store
from mcld.commands.finish import finish, next_lines, summary_lines, write_report
from mcld.configs.compose import RESOLVED, read_facts, settings_from_yaml
from mcld.configs.schema import Distill, RunSettings, Train
from mcld.configs.values import with_values
from mcld.data import DataInfo, DataOptions, DataSet
from mcld.display import Display
from mcld.distributed import leave_in_order
from mcld.engine.checkpoint import keep_newest
from mcld.engine.loop import Loop
from mcld.engine.ranks import NO_TEACHER, Judged, evaluate_teacher, live_teacher
from mcld.engine.stop import StopRequest
from mcld.errors import InputError
from mcld.evaluation import Accuracy
from mcld.evaluation.cost import count_macs, count_parameters
from mcld.files import atomic_write_text, home_path
from mcld.models.network import ModelSpec, Network
from mcld.options import OBJECT, places
from mcld.plugins import check_plugins, describe_plugins
from mcld.runs import RunDirectory
from mcld.runs.environment import describe_environment
from mcld.teacher import LiveTeacher, StoredTeacher, Teacher, check_order, check_teacher


def start(
    settings: Train | Distill, *, force: bool = False, display: Display | None = None, objects: Objects = NO_OBJECTS
) -> dict[str, Any]:
    """Start a new run and train to the end.

    Args:
        settings: of the run.
        force: replace an existing run directory.
        display: where to print.
        objects: what the settings do not name.

    Returns:
        The content of ``summary.json``.

    Raises:
        InputError: for settings that cannot work; nothing is written then.
        RunError: when the run cannot go on.
        Interrupted: when it was asked to stop.
    """
    path = settings.run or default_run_name(settings, objects.describe())
    settings = settle(with_values(settings, {"run": path}))
    fabric = launch(settings)
    _on_first_rank(fabric, lambda: check_place(settings, force=force))
    display = display or Display(silent=not fabric.is_global_zero)
    parts = build_parts(settings, objects).on(fabric.device)
    judged = _prepare_teacher(fabric, parts, display)
    stop = StopRequest()
    trained = on_features(parts, display, fabric.device)
    loop = Loop(fabric, trained, _source(parts, judged), judged.predictions, RunDirectory(path), display, stop)

    def create() -> None:
        with RunDirectory.create(path, force=force) as run:
            plugins = describe_plugins(used_names(parts))
            known = {**describe_environment(), "inputs": describe_inputs(parts), "plugins": plugins}
            run.write_json(run.environment, known)
            run.write_json(run.model, parts.student.spec.to_dict())
            if parts.data.split_table:
                atomic_write_text(run.split, parts.data.split_table)
            atomic_write_text(run.config, parts.plan.to_yaml())  # last: it is what makes the directory a run

    _on_first_rank(fabric, create)  # after all that can be wrong with the settings: it may replace another run
    return _train(loop, stop, judged, resume=False)


def resume(
    path: str, *, threads: int | None = None, display: Display | None = None, objects: Objects = NO_OBJECTS
) -> dict[str, Any]:
    """Go on with an interrupted run.

    Args:
        path: its run directory.
        threads: CPU threads of each process, instead of as many as it had.
        display: where to print.
        objects: those that it was started with, given again.

    Returns:
        The content of ``summary.json``.

    Raises:
        InputError: when path is no run directory, a plugin or an object that it was made with is missing, its data,
            teacher or settings have changed, or all its checkpoints are damaged.
        RunError: when the run cannot go on.
        Interrupted: when it was asked to stop again.
    """
    run = RunDirectory.open(path)
    notes = check_plugins(run.plugins, path)
    settings, facts = settings_from_yaml(run.config), read_facts(run.config)
    check_objects(path, facts.get("objects"), objects.describe())
    settings = settle(with_values(settings, {"run": path, "threads": threads or settings.threads}))
    fabric = launch(settings)
    display = display or Display(silent=not fabric.is_global_zero)
    for note in notes:
        display.line(note, style="yellow")
    parts = build_parts(settings, objects, begun=True).on(fabric.device)
    began = run.read_json(run.environment).get("inputs")
    known = began if isinstance(began, dict) else {}
    changed = [name for name, digest in describe_inputs(parts).items() if known.get(name) != digest]
    if not same_network(run.read_json(run.model), parts.student.spec):
        changed.append(f"network in {run.model.name}")
    if facts:  # older runs have none
        now = parts.plan.facts()
        changed += [f"{key} of {RESOLVED} in {run.config.name}" for key in now if facts.get(key) != now[key]]
    if changed:
        raise InputError(f"run {path} cannot go on: the {changed[0]} changed since it began; start again with --force")
    judged = _prepare_teacher(fabric, parts, display)
    stop = StopRequest()
    trained = on_features(parts, display, fabric.device)
    loop = Loop(fabric, trained, _source(parts, judged), judged.predictions, run, display, stop)
    return _train(loop, stop, judged, resume=True)


def launch(settings: RunSettings) -> Fabric:
    """The devices of a run, with their processes started.

    Args:
        settings: settled.
    """
    _, devices, nodes = processes(settings)
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of the other processes, whose warnings are pages of C++
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning_fabric")
        fabric = Fabric(
            accelerator=settings.device,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            precision={"32": "32-true", "bf16": "bf16-mixed", "16-mixed": "16-mixed"}[settings.precision],  # type: ignore[arg-type]
        )
        fabric.launch()
    leave_in_order()
    return fabric


def same_network(then: dict[str, Any], spec: ModelSpec) -> bool:
    """Whether ``model.json`` is of this network: of a temperature it may know, of the preprocessing it may not yet."""
    now = {key: value for key, value in spec.to_dict().items() if key != "temperature"}
    known = {"preprocessing": now["preprocessing"], **then}
    known.pop("temperature", None)
    return known == now


def describe_inputs(parts: Parts) -> dict[str, str]:
    """Digests of what a run learns from: with anything else it would not go on, but become another run."""
    inputs = {"training data": parts.data.train.fingerprint(), "validation data": parts.data.val.fingerprint()}
    if parts.teacher is not None:
        inputs["teacher's weights"] = parts.teacher.digest()
    return inputs


def used_names(parts: Parts) -> dict[str, list[str]]:
    """What a run uses that goes by a name, by kind."""
    settings = parts.settings
    networks = [network for network in (parts.student, parts.teacher) if network is not None]
    names = {
        "data": [settings.data.name],
        "model": [network.spec.architecture for network in networks],
        "method": settings.method.name.split("+") if isinstance(settings, Distill) else [],
        "logger": settings.logger.name.split("+"),
    }
    return {kind: [name for name in found if not name.startswith(OBJECT)] for kind, found in names.items()}


def check_place(settings: Train | Distill, *, force: bool) -> None:
    """Check that the run directory can be made, and that nothing is lost by it that the run reads.

    Raises:
        InputError: when it cannot.
    """
    assert settings.run is not None
    RunDirectory.check_free(settings.run, force=force)
    roles = ("model",) if isinstance(settings, Train) else ("teacher", "student")
    inputs = {f"data.{key}": getattr(settings.data, key) for key in places(type(settings.data))}
    for role in roles:
        inputs |= {role: getattr(settings, role).name, f"{role}.checkpoint": getattr(settings, role).checkpoint}
    for name, given in inputs.items():
        source = home_path(given or "")
        if given and source.exists() and source.resolve().is_relative_to(os.path.realpath(settings.run)):
            raise InputError(
                f"run={settings.run} would replace {name}={given}, which it reads; choose another run=NAME"
            )


def _prepare_teacher(fabric: Fabric, parts: Parts, display: Display) -> Judged:
    """Announce the parts, then evaluate the teacher before anything is written: most mistakes show here."""
    settings = parts.settings
    for line in [*parts.plan.notes, *describe_parts(parts)]:
        display.line(line)
    if parts.teacher is None:
        return NO_TEACHER
    assert isinstance(settings, Distill)
    places = parts.plan.stores
    live = live_teacher(fabric, parts)
    assert live is not None
    teacher = with_store(live, places.training, display)
    images = len(parts.data.val)
    predictions = torch.zeros(images, dtype=torch.int64, device=fabric.device)
    confidences = torch.zeros(images, device=fabric.device)
    asked = with_store(live, places.validation, display)
    accuracy = judge_teacher(fabric, settings, parts.data, asked, display, predictions, confidences)
    return Judged(teacher, predictions, confidences, accuracy)


def judge_teacher(
    fabric: Fabric,
    settings: Distill,
    data: DataSet,
    teacher: LiveTeacher | StoredTeacher,
    display: Display,
    predictions: torch.Tensor | None = None,
    confidences: torch.Tensor | None = None,
) -> Accuracy:
    """Say how good the teacher is on the validation data.

    Its predicted classes are put into ``predictions``, their probabilities into ``confidences``.

    Raises:
        InputError: when it is no better than guessing.
    """
    name = settings.teacher.name
    accuracy = evaluate_teacher(fabric, settings, data.val, teacher, predictions, confidences)
    display.line(f"teacher {name}: top-1 {accuracy.top1:.2%}, top-5 {accuracy.top5:.2%} on the validation data")
    allow = settings.teacher.allow_near_chance
    if predictions is not None and fabric.world_size == 1:  # of several ranks each knows its share
        check_order(
            name, data.info.classes, predictions, data.val.labels.to(predictions.device), allow_near_chance=allow
        )
    check_teacher(name, accuracy, allow_near_chance=allow)
    return accuracy


def describe_parts(parts: Parts) -> list[str]:
    """Lines about the data and the networks."""
    lines = [describe_data(parts.data, where_from(parts.settings.data))]
    for role, network in (("teacher", parts.teacher), ("student", parts.student)):
        if network is not None:
            name = "model" if isinstance(parts.settings, Train) else role
            lines.append(describe_network(name, network, parts.data.info))
    return lines


def where_from(options: DataOptions) -> str:
    """Where a data set lies, as its settings say it: what ``data=PATH`` was taken for."""
    given = {key: getattr(options, key) for key in places(type(options)) if key != "split"}
    return "".join(f" data.{key}={value}" for key, value in given.items() if value is not None)


def describe_data(data: DataSet, where: str = "") -> str:
    """A line about the images, and the views of them that a run shows."""
    info = data.info
    size = "×".join(str(side) for side in info.image_size)
    channels = "1 channel" if info.channels == 1 else f"{info.channels} channels"
    return (
        f"data {info.name}{where}: {len(data.train):,} training and {len(data.val):,} validation images, "
        f"{len(info.classes)} classes, {size} px, {channels}; {data.train.views.description}"
    )


def describe_network(role: str, network: Network, info: DataInfo) -> str:
    """A line about the size of a network."""
    macs = count_macs(network.model, (network.spec.in_channels, *info.image_size))
    parameters = count_parameters(network.model)
    return f"{role} {network.spec.architecture}: {parameters:,} parameters, {macs / 1e6:,.3g} MMACs"


def _source(parts: Parts, judged: Judged) -> Teacher | None:
    """The teacher that the loop asks; plain training is only told how far it agrees with one."""
    return judged.teacher if parts.method.needs else None


def _train(loop: Loop, stop: StopRequest, judged: Judged, *, resume: bool) -> dict[str, Any]:
    fabric, parts, settings, run, display = loop.fabric, loop.parts, loop.settings, loop.run, loop.display
    with _locked(fabric, run):
        with stop:
            display.log = run.log
            if isinstance(loop.teacher, StoredTeacher):
                loop.teacher.store.give_up = lambda: stop.signal is not None
            if resume:
                loop.restore()
                if fabric.is_global_zero and "preprocessing" not in run.read_json(run.model):  # of an earlier mcld
                    run.write_json(run.model, parts.student.spec.to_dict())
            schedule = settings.schedule
            display.line(
                f"{schedule.epochs} epochs of {loop.steps:,} steps, batch {settings.data.batch_size}, "
                f"{schedule.name} schedule, lr {schedule.lr:g}, seed {settings.seed}"
            )
            for note in loop.loader.notes:
                display.line(note)
            display.line(f"{fabric.device.type} × {fabric.world_size}: {describe_choices(settings)}")
            position = loop.train()
            finished = finish(fabric, parts, position, judged, run)
            summary = finished.summary
            if isinstance(teacher := loop.teacher, StoredTeacher):
                summary["teacher"]["stored"] = {
                    "folder": str(teacher.store.folder),
                    "precision": teacher.store.header.storage,
                }
                display.line(f"teacher's logits: {teacher.share_read():.1%} read from the store, the others computed")
            if fabric.is_global_zero:
                run.write_json(run.summary, summary)
                keep_newest(run.checkpoints)
        fabric.barrier()
        if fabric.is_global_zero:
            write_report(parts, finished, run, display)
    for line in [*summary_lines(summary, run), *next_lines(settings, run)]:
        display.line(line)
    return summary


def _locked(fabric: Fabric, run: RunDirectory) -> contextlib.AbstractContextManager[None]:
    return run.lock() if fabric.is_global_zero else contextlib.nullcontext()


def _on_first_rank(fabric: Fabric, action: Callable[[], None]) -> None:
    """Do it on rank 0; when that fails all ranks leave with its message."""
    message = None
    if fabric.is_global_zero:
        try:
            action()
        except (InputError, OSError) as error:
            message = str(error)
    message = fabric.broadcast(message)
    if message is not None:
        raise InputError(message)
