"""From settings to the parts of a run."""

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from mcld.assembly.batchnorm import share_statistics
from mcld.assembly.choices import choose_layout
from mcld.assembly.network_options import NetworkSettings
from mcld.assembly.networks import build_network
from mcld.assembly.objects import NO_OBJECTS, Objects, needed
from mcld.assembly.optimizers import default_learning_rate
from mcld.assembly.parted import PARTED, check_parts
from mcld.assembly.plan import Plan, default_run_name, settle
from mcld.assembly.sizes import fit_image_size
from mcld.assembly.splits import reuse_split
from mcld.assembly.stores import Places, choose_stores
from mcld.configs.schema import Distill, RunSettings, Train
from mcld.configs.values import with_values
from mcld.data import DataSet, check_several, load_data
from mcld.display import Notes
from mcld.distiller import Distiller
from mcld.errors import InputError
from mcld.methods import Method, create_method
from mcld.models._frozen import FrozenBackbone
from mcld.models.network import Network
from mcld.options import OBJECT
from mcld.runs import RunDirectory

AnySettings = TypeVar("AnySettings", bound=RunSettings)


class SettingsDistiller(Distiller):
    """A distiller whose messages name settings."""

    spelling = "{role}.{what}"


@dataclass(frozen=True)
class Parts:
    """Everything a run needs, built and checked.

    Attributes:
        plan: what the run will do.
        data: the data set.
        student: the network that is trained.
        teacher: the network to learn from, if any.
        method: how.
        distiller: what computes the loss of a step from them.
    """

    plan: Plan
    data: DataSet
    student: Network
    teacher: Network | None
    method: Method
    distiller: Distiller

    @property
    def settings(self) -> Train | Distill:
        """With nothing left to derive."""
        return self.plan.settings

    def on(self, device: torch.device) -> "Parts":
        """The same with the data on a device, where it is held in memory."""
        return dataclasses.replace(self, data=self.data.to(device))

    def in_layout(self) -> Distiller:
        """The distiller; the student and the method are laid out in memory as the settings say."""
        if self.settings.channels_last is True:
            self.distiller.to(memory_format=torch.channels_last)
        return self.distiller


def build_parts(settings: Train | Distill, objects: Objects = NO_OBJECTS, *, begun: bool = False) -> Parts:
    """Settle what is open in the settings, and build data, networks and method: the plan of a run, and its parts.

    The student's first weights depend on the seed and its architecture only, whatever the teacher and the method.

    Args:
        settings: of the run.
        objects: what the settings do not name.
        begun: whether they are of a run that has begun, whose images have the size that they had.

    Raises:
        InputError: for settings that cannot work.
    """
    settings = settle(settings)
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    method = build_method(settings.method, objects) if isinstance(settings, Distill) else create_method("plain")
    settings, sized = (settings, []) if begun else fit_image_size(settings)
    settings, split = (settings, []) if begun else reuse_split(settings)
    data, settings = build_data(settings, method, objects)
    notes = [*split, *data.notes, *sized, *many_threads(settings.threads)]
    student_settings = settings.model if isinstance(settings, Train) else settings.student
    role = "model" if isinstance(settings, Train) else "student"
    torch.manual_seed(settings.seed)
    frozen = isinstance(settings, Train) and settings.freeze == "backbone"
    student = build_network(student_settings, data.info, role, notes, objects.student, new_head=frozen)
    if frozen:
        check_trained(student_settings)
        student = FrozenBackbone(student, f"{role} {student_settings.name}")
    share_statistics(student, settings, notes)
    lr = settings.schedule.lr or default_learning_rate(student.spec.architecture, settings.optimizer)
    run = settings.run or default_run_name(settings, objects.describe())
    settings = with_values(settings, {"schedule.lr": lr, "run": run})
    torch.manual_seed(settings.seed + 1)
    teacher, ce_weight = None, 1.0
    if isinstance(settings, Distill):
        ce_weight = method.ce_weight if settings.ce_weight is None else settings.ce_weight
        if ce_weight == 0 and not method.needs:
            raise InputError(f"ce_weight=0 with method={settings.method.name} leaves nothing to learn from")
        settings = with_values(settings, {"ce_weight": ce_weight})
        if settings.optimizer.name in PARTED:
            check_parts(settings.optimizer.name, method, ce_weight)
        if method.needs or settings.teacher.name != "none":  # plain training may still ask how far they agree
            teacher = build_network(settings.teacher, data.info, "teacher", notes, objects.teacher)
    torch.manual_seed(settings.seed + 2)  # for the method's own parts
    distiller = SettingsDistiller(
        student,
        teacher,
        method,
        epochs=settings.schedule.epochs,
        image_size=data.info.image_size,
        ce_weight=ce_weight,
        label_smoothing=settings.label_smoothing,
        **named_modules("student", student_settings),
        **(named_modules("teacher", settings.teacher) if isinstance(settings, Distill) else {}),
        train_labels=data.train.labels,
        check_values=False,  # the meter finds bad values without a synchronisation per step
    )
    assert isinstance(distiller.student, Network)
    student = distiller.student  # of which a method may have replaced the last layer
    plain = data.info.plain.to_dict()
    student.spec = dataclasses.replace(student.spec, preprocessing=plain, temperature=None)  # those of another run go
    notes += short_ramps(method, settings.schedule.epochs)
    settings = choose_layout(settings, student=student.model, method=method)
    stores = Places(None, None)
    if isinstance(settings, Distill) and teacher is not None:
        if OBJECT in (settings.teacher.name, settings.data.name) and settings.teacher.store == "auto":
            settings = with_values(settings, {"teacher.store": "off"})  # no digest tells two objects apart for certain
        told = Notes()
        stores = choose_stores(settings, teacher, data, method, told)
        notes += told.lines
    torch.manual_seed(settings.seed + 3)  # for what is drawn during training
    images, spec = (len(data.train), len(data.val)), None if teacher is None else teacher.spec
    plan = Plan(settings, data.info, images, student.spec, spec, stores, tuple(notes), objects.describe())
    return Parts(plan, data, student, teacher, method, distiller)


def check_trained(model: NetworkSettings) -> None:
    """Check that a network whose backbone stays as it is has been trained.

    Raises:
        InputError: when its weights are new.
    """
    if (
        model.checkpoint is None
        and not model.pretrained
        and model.name != OBJECT
        and not RunDirectory.is_run(model.name)
    ):
        raise InputError(
            f"freeze=backbone keeps the weights of model={model.name}, which are new; expected model.checkpoint=FILE, "
            "model.pretrained=true, or a run directory"
        )


def named_modules(role: str, network: NetworkSettings) -> dict[str, Any]:
    """The arguments of a distiller that name modules of a network."""
    return {f"{role}_{what}": getattr(network, what) for what in ("maps", "pooled", "classifier")}


def many_threads(threads: int | None) -> list[str]:
    """A line when there are more threads than cores."""
    cores = os.cpu_count() or 1
    if threads is None or threads <= cores:
        return []
    return [f"warning: threads={threads} on {cores} cores; that can be many times slower"]


def short_ramps(method: Method, epochs: int) -> list[str]:
    """A line for each method whose terms grow over more epochs than the run has."""
    ramps = {type(part).__name__: vars(part).get("warmup") for part in method.modules() if isinstance(part, Method)}
    return [
        f"warning: {name} warms up over {warmup:g} epochs, the run has {epochs}: its terms reach {epochs / warmup:.2g} "
        "of their weight"
        for name, warmup in ramps.items()
        if isinstance(warmup, int | float) and warmup > epochs
    ]


def build_data(settings: AnySettings, method: Method, objects: Objects = NO_OBJECTS) -> tuple[DataSet, AnySettings]:
    """The data set with the views that a run shows: pooled for the teacher's store, two kinds for some methods.

    Returns:
        It, and the settings with the augmentation of the second view.

    Raises:
        InputError: for settings that cannot work.
    """
    own = settings.data.name == OBJECT
    data: DataSet = needed("data", objects.data) if own else load_data(**_options(settings.data))
    check_several(data.info)
    if isinstance(settings, Distill) and settings.teacher.views is not None:
        data = pool_views(data, settings.teacher.views)
    return with_second_view(data, settings, method)


def with_second_view(data: DataSet, settings: AnySettings, method: Method) -> tuple[DataSet, AnySettings]:
    """The data with the second view's own augmentation, where there is a second view and it has one; the settings.

    Raises:
        InputError: when an augmentation is asked for and there is no second view.
    """
    policy = settings.data.second_policy
    if method.views == 1:
        if policy is not None:
            raise InputError(f"data.second_policy={policy}: the method shows one view of each image; expected null")
        return data, settings
    if policy is None:
        policy = (method.second_policy if settings.data.augment else None) or settings.data.policy
        settings = with_values(settings, {"data.second_policy": policy})  # for the record
    if policy == settings.data.policy:
        return data, settings
    return dataclasses.replace(data, train=data.train.with_second(policy)), settings


def pool_views(data: DataSet, views: int) -> DataSet:
    """The data with only so many views of each training image, for the teacher and the student alike.

    Raises:
        InputError: when there are not so many.
    """
    try:
        return dataclasses.replace(data, train=data.train.with_pool(views))
    except InputError as error:
        raise InputError(f"teacher.views={views}: {error}") from error


def build_method(settings: Any, objects: Objects = NO_OBJECTS) -> Method:
    """The method that a settings object describes: its ``name``, and its options in the other fields."""
    if settings.name == OBJECT:
        given: Method = needed("method", objects.method)
        return given
    options = _options(settings)
    name: str = options.pop("name")
    if "+" not in name:
        return create_method(name, **options)
    weights = _options(options.pop("weights"))
    members = {member: {k: v for k, v in _options(given).items() if k != "name"} for member, given in options.items()}
    return create_method(name.split("+"), weights=weights, **members)


def _options(settings: Any) -> dict[str, Any]:
    """The fields of a settings object, nested ones as they are."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
