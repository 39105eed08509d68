"""What of the settings can be checked before anything is built."""

import os

from mcld.assembly.optimizer_options import FROM_TIMM
from mcld.assembly.parted import PARTED, part_momenta
from mcld.assembly.schedule import check_schedule
from mcld.assembly.teacher_options import TeacherSettings
from mcld.configs.schema import Distill, RunSettings, Train
from mcld.errors import InputError

MOST = 1e6  # a weight or a time beyond it is a slip of the pen
MOST_VIEWS = 2**31 - 1
MOST_THREADS = max(256, 4 * (os.cpu_count() or 1))  # hundreds more wait for one another, thousands end the process


def check_settings(settings: RunSettings) -> None:
    """Check what can be checked without building anything.

    Raises:
        InputError: naming the setting, what was given and what would be right.
    """
    schedule, optimizer = settings.schedule, settings.optimizer
    check_schedule(schedule)
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
        most = MOST_THREADS if name == "threads" else 2**31 - 1
        if count > most:
            raise InputError(f"{name}={count}; expected at most {most:,}")
    if schedule.lr is not None and not 0 < schedule.lr < float("inf"):
        raise InputError(f"schedule.lr={schedule.lr}; expected a positive number")
    positive = {
        "optimizer.clip": optimizer.clip,
        "checkpoints.minutes": settings.checkpoints.minutes,
    }
    for name, value in positive.items():
        if value is not None and not 0 < value <= MOST:
            raise InputError(f"{name}={value}; expected a positive number of at most {MOST:g}")
    not_negative = {
        "optimizer.weight_decay": optimizer.weight_decay,
        "schedule.gamma": schedule.gamma,
    }
    if isinstance(settings, Distill) and settings.ce_weight is not None:
        not_negative["ce_weight"] = settings.ce_weight
    for name, value in not_negative.items():
        if not 0 <= value <= MOST:
            raise InputError(f"{name}={value}; expected at least 0 and at most {MOST:g}")
    if not 0 <= settings.seed < 2**62:
        raise InputError(f"seed={settings.seed}; expected a number below 2**62, at least 0")
    if schedule.gamma > 1:
        raise InputError(f"schedule.gamma={schedule.gamma}; expected at most 1: the learning rate falls by it")
    if optimizer.nesterov and optimizer.momentum == 0:
        raise InputError("optimizer.nesterov=true needs optimizer.momentum above 0")
    for name, value in {"label_smoothing": settings.label_smoothing, "optimizer.momentum": optimizer.momentum}.items():
        if not 0 <= value < 1:
            raise InputError(f"{name}={value}; expected at least 0 and below 1")
    choices = {
        "optimizer": (optimizer.name, ("sgd", "adamw", *FROM_TIMM, *PARTED)),
        "device": (settings.device, ("auto", "cpu", "cuda", "mps")),
        "precision": (settings.precision, ("auto", "32", "bf16", "16-mixed")),
        "data.sampler": (settings.data.sampler, ("none", "balanced")),
        "step": (settings.step, ("auto", "graph", "eager")),
        "channels_last": (settings.channels_last, ("auto", True, False)),
        "compile": (settings.compile, ("auto", True, False)),
        "optimizer.fused": (optimizer.fused, ("auto", True, False)),
    }
    for role in ("model", "teacher", "student"):
        if network := getattr(settings, role, None):
            choices[f"{role}.weights"] = (network.weights, ("last", "best"))
    if isinstance(settings, Train):
        choices["freeze"] = (settings.freeze, ("none", "backbone"))
    if isinstance(settings, Distill):
        check_store(settings.teacher)
    for name, (given, allowed) in choices.items():
        if given not in allowed:
            raise InputError(f"{name}={given}; expected one of {', '.join(str(value).lower() for value in allowed)}")
    if optimizer.name in PARTED:
        _check_parted(settings)


def _check_parted(settings: RunSettings) -> None:
    name = settings.optimizer.name
    part_momenta(settings.optimizer)
    if not isinstance(settings, Distill):
        raise InputError(f"optimizer={name} is for mcld distill: it takes the teacher's part of the loss apart")
    if settings.optimizer.nesterov:
        raise InputError(f"optimizer={name} has no Nesterov's kind of momentum: optimizer.nesterov=false")
    if settings.precision == "16-mixed":
        raise InputError(f"optimizer={name} cannot undo the scaling of precision=16-mixed; expected 32 or bf16")


def check_store(teacher: TeacherSettings) -> None:
    """Check the settings of the teacher's store.

    Raises:
        InputError: as :func:`check_settings`.
    """
    if teacher.store_precision not in (16, 32):
        raise InputError(f"teacher.store_precision={teacher.store_precision}; expected 16 or 32")
    if teacher.views is not None and not 1 <= teacher.views <= MOST_VIEWS:
        raise InputError(f"teacher.views={teacher.views}; expected at least 1 and at most {MOST_VIEWS:,}")
    if not teacher.store:
        raise InputError("teacher.store is empty; expected auto, off or a folder")
