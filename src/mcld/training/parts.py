"""From settings to the parts of a run."""

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mcld.configs.compose import settings_from_yaml
from mcld.configs.schema import Distill, Optimizer, Run, Teacher, Train
from mcld.configs.schema import Network as NetworkSettings
from mcld.data import DataInfo, DataSet, check_classes, load_data
from mcld.errors import InputError
from mcld.features import Features
from mcld.methods import Method, create_method
from mcld.models import default_lr, fitting_options, load_checkpoint
from mcld.models.checkpoint import Part
from mcld.models.network import ModelSpec, Network, load_weights, reuse_classifier
from mcld.runs import RunDirectory
from mcld.training.choices import choose_layout
from mcld.training.objective import Objective
from mcld.training.schedule import check_schedule


@dataclass
class Parts:
    """Everything a run needs, built and checked.

    Attributes:
        settings: with nothing left to be derived.
        data: the data set.
        student: the network that is trained.
        teacher: the network to learn from, if any.
        method: how.
        ce_weight: the weight of cross-entropy.
        notes: what a person should know of how the parts were made.
        student_features: what the method reads from the student.
        teacher_features: what the method reads from the teacher, if there is one.
    """

    settings: Train | Distill
    data: DataSet
    student: Network
    teacher: Network | None
    method: Method
    ce_weight: float
    notes: list[str]
    student_features: Features
    teacher_features: Features | None

    def objective(self) -> Objective:
        """What is minimised; the student and the method are laid out in memory as the settings say."""
        objective = Objective(
            self.student,
            self.method,
            ce_weight=self.ce_weight,
            label_smoothing=self.settings.label_smoothing,
            features=self.student_features,
        )
        return objective.to(memory_format=torch.channels_last) if self.settings.channels_last is True else objective


def build_parts(settings: Train | Distill) -> Parts:
    """Build data, networks and method.

    The student's first weights depend on the seed and its architecture only, whatever the teacher and the method.

    Raises:
        InputError: for settings that cannot work.
    """
    method = build_method(settings.method) if isinstance(settings, Distill) else create_method("plain")
    data = build_data(settings, method)
    notes = list(data.notes)
    student_settings = settings.model if isinstance(settings, Train) else settings.student
    role = "model" if isinstance(settings, Train) else "student"
    torch.manual_seed(settings.seed)
    student = build_network(student_settings, data.info, role, notes)
    settings.schedule.lr = settings.schedule.lr or default_learning_rate(student.spec.architecture, settings.optimizer)
    torch.manual_seed(settings.seed + 1)
    teacher, ce_weight = None, 1.0
    if isinstance(settings, Distill):
        ce_weight = method.ce_weight if settings.ce_weight is None else settings.ce_weight
        if ce_weight == 0 and not method.needs:
            raise InputError(f"ce_weight=0 with method={settings.method.name} leaves nothing to learn from")
        settings.ce_weight = ce_weight
        if method.needs or settings.teacher.name != "none":  # plain training may still ask how far they agree
            teacher = build_network(settings.teacher, data.info, "teacher", notes)
    torch.manual_seed(settings.seed + 2)  # for the method's own parts
    if method.reuses_classifier and teacher is not None:
        student = reuse_classifier(student, teacher)
    needs, size = method.needs, data.info.image_size
    student_features = Features(student, needs, maps=student_settings.maps, image_size=size, role=role)
    teacher_features = None
    if isinstance(settings, Distill) and teacher is not None:
        teacher_features = Features(teacher, needs, maps=settings.teacher.maps, image_size=size, role="teacher")
        shapes = student_features.shapes(), teacher_features.shapes()
        method.prepare(*shapes, len(data.train), settings.schedule.epochs, data.train.labels)
    choose_layout(settings, student=student.model, method=method)
    torch.manual_seed(settings.seed + 3)  # for what is drawn during training
    return Parts(settings, data, student, teacher, method, ce_weight, notes, student_features, teacher_features)


def build_data(settings: Train | Distill, method: Method) -> DataSet:
    """The data set with the views that a run shows: pooled for the teacher's store, two kinds for some methods.

    Raises:
        InputError: for settings that cannot work.
    """
    data = load_data(**_options(settings.data))
    if isinstance(settings, Distill) and settings.teacher.views is not None:
        data = pool_views(data, settings.teacher.views)
    return with_second_view(data, settings, method)


def with_second_view(data: DataSet, settings: Train | Distill, method: Method) -> DataSet:
    """The data with the second view's own augmentation, where there is a second view and it has one.

    Raises:
        InputError: when an augmentation is asked for and there is no second view.
    """
    policy = settings.data.second_policy
    if method.views == 1:
        if policy is not None:
            raise InputError(f"data.second_policy={policy}: the method shows one view of each image; expected null")
        return data
    if policy is None:
        policy = (method.second_policy if settings.data.augment else None) or settings.data.policy
        settings.data.second_policy = policy  # for the record
    if policy == settings.data.policy:
        return data
    return dataclasses.replace(data, train=data.train.with_second(policy))


def pool_views(data: DataSet, views: int) -> DataSet:
    """The data with only so many views of each training image, for the teacher and the student alike.

    Raises:
        InputError: when there are not so many.
    """
    try:
        return dataclasses.replace(data, train=data.train.with_pool(views))
    except InputError as error:
        raise InputError(f"teacher.views={views}: {error}") from error


def check_settings(settings: Run) -> None:
    """Check what can be checked without building anything.

    Raises:
        InputError: naming the setting, what was given and what would be right.
    """
    schedule, optimizer = settings.schedule, settings.optimizer
    check_schedule(schedule.name, schedule.warmup, schedule.milestones)
    at_least_one = {
        "schedule.epochs": schedule.epochs,
        "data.batch_size": settings.data.batch_size,
        "devices": settings.devices,
        "log_every": settings.log_every,
        "threads": 1 if settings.threads is None else settings.threads,
    }
    for name, count in at_least_one.items():
        if count < 1:
            raise InputError(f"{name}={count}; expected at least 1")
        if count >= 2**31:
            raise InputError(f"{name}={count}; expected a number below 2**31")
    positive = {
        "schedule.lr": schedule.lr,
        "optimizer.clip": optimizer.clip,
        "checkpoints.minutes": settings.checkpoints.minutes,
    }
    for name, value in positive.items():
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{name}={value}; expected a positive number")
    not_negative = {
        "optimizer.weight_decay": optimizer.weight_decay,
        "schedule.gamma": schedule.gamma,
        "seed": settings.seed,
    }
    if isinstance(settings, Distill) and settings.ce_weight is not None:
        not_negative["ce_weight"] = settings.ce_weight
    for name, value in not_negative.items():
        if not 0 <= value < float("inf"):
            raise InputError(f"{name}={value}; expected at least 0")
    if settings.seed >= 2**62:
        raise InputError(f"seed={settings.seed}; expected a number below 2**62")
    if optimizer.nesterov and optimizer.momentum == 0:
        raise InputError("optimizer.nesterov=true needs optimizer.momentum above 0")
    for name, value in {"label_smoothing": settings.label_smoothing, "optimizer.momentum": optimizer.momentum}.items():
        if not 0 <= value < 1:
            raise InputError(f"{name}={value}; expected at least 0 and below 1")
    choices = {
        "optimizer": (optimizer.name, ("sgd", "adamw")),
        "device": (settings.device, ("auto", "cpu", "cuda", "mps")),
        "precision": (settings.precision, ("auto", "32", "bf16", "16-mixed")),
        "channels_last": (settings.channels_last, ("auto", True, False)),
        "compile": (settings.compile, ("auto", True, False)),
        "optimizer.fused": (optimizer.fused, ("auto", True, False)),
    }
    for role in ("model", "teacher", "student"):
        if network := getattr(settings, role, None):
            choices[f"{role}.weights"] = (network.weights, ("last", "best"))
    if isinstance(settings, Distill):
        check_store(settings.teacher)
    for name, (given, allowed) in choices.items():
        if given not in allowed:
            raise InputError(f"{name}={given}; expected one of {', '.join(str(value).lower() for value in allowed)}")


def check_store(teacher: Teacher) -> None:
    """Check the settings of the teacher's store.

    Raises:
        InputError: as :func:`check_settings`.
    """
    if teacher.store_precision not in (16, 32):
        raise InputError(f"teacher.store_precision={teacher.store_precision}; expected 16 or 32")
    if teacher.views is not None and teacher.views < 1:
        raise InputError(f"teacher.views={teacher.views}; expected at least 1")
    if not teacher.store:
        raise InputError("teacher.store is empty; expected auto, off or a folder")


def build_method(settings: Any) -> Method:
    """The method that a settings object describes: its ``name``, and its options in the other fields."""
    options = _options(settings)
    name: str = options.pop("name")
    if "+" not in name:
        return create_method(name, **options)
    weights = _options(options.pop("weights"))
    members = {member: {k: v for k, v in _options(given).items() if k != "name"} for member, given in options.items()}
    return create_method(name.split("+"), weights=weights, **members)


def build_network(settings: NetworkSettings, data: DataInfo, role: str, notes: list[str]) -> Network:
    """A network from a run directory, or a new one, with its weights if it is given any.

    Args:
        settings: which.
        data: what it has to fit.
        role: ``model``, ``student`` or ``teacher``, for messages.
        notes: gets a line for what a person should know.

    Raises:
        InputError: when there is no such run or architecture, or it does not fit the data.
    """
    name = settings.name
    if RunDirectory.is_run(name):
        if settings.checkpoint or settings.options or settings.pretrained:
            raise InputError(f"{role}={name} is a run directory; it takes no checkpoint, options or pretrained")
        network = load_run(name, settings.weights)
        notes += unfinished(name)
        check_classes(network.spec.classes, data.classes, f"{role} {name}")
    else:
        if Path(name).exists() or (name.count("/") and name.split("/")[0] not in ("timm", "torchvision")):
            what = "is not a run directory" if Path(name).exists() else "does not exist, nor is it a model"
            raise InputError(f"{role}={name} {what}; expected a run directory, or a name from: mcld models")
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
            notes.append(f"{role}: {_load_part(network, settings.checkpoint, role)}")
    if network.spec.in_channels != data.channels:
        raise InputError(
            f"{role} {name} takes images of {network.spec.in_channels} channels; data {data.name} has {data.channels}"
        )
    if settings.mean or settings.std:
        spec = dataclasses.replace(
            network.spec, mean=settings.mean or network.spec.mean, std=settings.std or network.spec.std
        )
        network = Network(network.model, spec)
    return network


def _load_part(network: Network, file: str, role: str) -> str:
    """Load weights from a file, of two networks in it the one of this role; the other only where there is but one."""
    own: Part = "teacher" if role == "teacher" else "student"
    other: Part = "student" if own == "teacher" else "teacher"
    try:
        return str(load_checkpoint(network.model, file, part=own))
    except InputError as error:
        with contextlib.suppress(InputError):
            return f"{load_checkpoint(network.model, file, part=other)}; it holds a {other} only"
        raise error from None


def unfinished(path: str) -> list[str]:
    """A line for a person when a run has not come to its end, else none."""
    run = RunDirectory.open(path)
    if run.summary.is_file():
        return []
    epochs = settings_from_yaml(run.config).schedule.epochs
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


def load_run(path: str, weights: str = "last") -> Network:
    """The trained network of a run directory.

    Raises:
        InputError: when the run has no such weights (yet).
    """
    run = RunDirectory.open(path)
    file = run.weights(weights)
    if not file.is_file():
        raise InputError(f"run {path} has no {weights} weights yet; finish it first: mcld resume {path}")
    network = ModelSpec.from_dict(run.read_json(run.model)).build(pretrained=False)
    load_weights(network.model, file)
    return network


def default_learning_rate(name: str, optimizer: Optimizer) -> float:
    """The architecture's learning rate in the field's SGD recipe; 0.001 for AdamW."""
    if optimizer.name == "adamw":
        return 1e-3
    return default_lr(name)


def parameter_groups(settings: Optimizer, module: nn.Module) -> list[dict[str, Any]]:
    """The parameters of a module for the optimizer: those with weight decay, and perhaps those without.

    With ``decay_norms=false`` the second hold what has fewer than two dimensions (the weights of normalisation, biases)
    and what a network of timm exempts by its ``no_weight_decay`` (tokens, position embeddings).
    """
    named = dict(module.named_parameters())
    exempt: set[str] = set()
    if not settings.decay_norms:
        exempt = {name for name, parameter in named.items() if parameter.ndim < 2}
        for path, part in module.named_modules():
            listed = getattr(part, "no_weight_decay", None)
            if callable(listed):
                exempt |= {f"{path}.{name}".lstrip(".") for name in listed()}
    groups: list[dict[str, Any]] = [
        {"params": [parameter for name, parameter in named.items() if name not in exempt]},
        {"params": [parameter for name, parameter in named.items() if name in exempt], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def create_optimizer(settings: Optimizer, lr: float, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over the parameters of a module, which holds the student and the method."""
    parameters = parameter_groups(settings, module)
    fused = settings.fused is True or None  # None leaves it to PyTorch
    if settings.name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=settings.weight_decay, fused=fused)
    return torch.optim.SGD(
        parameters,
        lr=lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=fused,
    )


def default_run_name(settings: Train | Distill) -> str:
    """A name under ``runs`` that says what the run is."""
    words = [settings.data.name]
    if isinstance(settings, Distill):
        words = [
            "distill",
            *words,
            Path(settings.teacher.name).name,
            Path(settings.student.name).name,
            settings.method.name,
        ]
    else:
        words = ["train", *words, Path(settings.model.name).name]
    return str(Path("runs") / "-".join([*words, f"seed{settings.seed}"]))


def _options(settings: Any) -> dict[str, Any]:
    """The fields of a settings object, nested ones as they are."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
