"""What a run would do and how long it would take, without doing it."""

import time

import torch

from mcld.configs.schema import Distill, Train
from mcld.configs.values import with_values
from mcld.teacher import check_teacher
from mcld.training.choices import describe_choices
from mcld.training.display import Display
from mcld.training.loop import train_loader
from mcld.training.optimizers import create_optimizer
from mcld.training.parts import build_parts
from mcld.training.plan import default_run_name, settle
from mcld.training.ranks import evaluate_on, live_teacher
from mcld.training.run import check_place, describe_parts, launch
from mcld.training.step import descend, forward_of

WARM_UP, TIMED = 2, 6


def dry_run(settings: Train | Distill, *, force: bool = False) -> None:
    """Print what a run would do; the time is measured over a few real steps. Nothing is written.

    Raises:
        InputError: for whatever would stop the run itself.
    """
    settings = settle(with_values(settings, {"run": settings.run or default_run_name(settings, {})}))
    check_place(settings, force=force)
    settings = with_values(settings, {"devices": 1})  # the steps are timed here, on one
    fabric = launch(settings)
    parts = build_parts(settings).on(fabric.device)
    settings = parts.settings
    display = Display()
    for line in [*parts.plan.notes, *describe_parts(parts)]:
        display.line(line)
    names = [str(name) for name in parts.data.info.classes]
    display.line(f"classes: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}")
    loader = train_loader(fabric, parts)
    for note in loader.notes:
        display.line(note)
    schedule = settings.schedule
    assert schedule.lr is not None
    distiller = parts.in_layout()
    optimizer = create_optimizer(settings.optimizer, schedule.lr * 1e-6, distiller)
    module, fabric_optimizer = fabric.setup(distiller, optimizer)
    teacher = live_teacher(fabric, parts)
    if teacher is not None and isinstance(settings, Distill):
        accuracy = evaluate_on(fabric, parts, teacher.network)
        check_teacher(settings.teacher.name, accuracy, allow_near_chance=settings.teacher.allow_near_chance)
    if parts.method.whole_bank:  # the time of a step does not depend on what is in it
        images, classes = len(parts.data.train), len(parts.data.info.classes)
        index = torch.arange(images, device=fabric.device)
        parts.method.fill_bank(torch.randn(images, classes).to(fabric.device), parts.data.train.labels, index)
        display.line(f"bank: random numbers in place of the teacher's logits of all {images:,} training images")
    terms: dict[str, torch.Tensor] = {}
    started, done = time.perf_counter(), 0
    for step, batch in enumerate(loader.epoch(0)):
        if step == WARM_UP:
            started, done = time.perf_counter(), 0
        with fabric.autocast():
            outputs = None if teacher is None else teacher(batch)
        with forward_of(fabric, module, optimizer):
            out = module(batch.image, batch.label, progress=1.0, index=batch.index, teacher_logits=outputs)
        terms = out.terms
        descend(fabric, module, fabric_optimizer, out, parts.method, settings.optimizer.clip)
        done += 1
        if step + 1 == WARM_UP + TIMED:
            break
    terms = {name: value.detach().cpu() for name, value in terms.items()}  # waits for the device
    per_step = (time.perf_counter() - started) / done
    steps = loader.steps_per_epoch * schedule.epochs
    display.line(
        f"{schedule.epochs} epochs of {loader.steps_per_epoch:,} steps, batch {settings.data.batch_size}, "
        f"{schedule.name} schedule, lr {schedule.lr:g}"
    )
    display.line(f"{fabric.device.type}: {describe_choices(settings)}")
    shown = "  ".join(f"{name} {float(value):.3f}" for name, value in terms.items())
    display.line(f"loss terms at the first weights: {shown}")
    display.line(
        f"about {_duration(per_step * steps)} of training, evaluation not counted "
        f"({settings.data.batch_size / per_step:,.0f} images/s over {done} steps)"
    )
    display.line(f"the run directory would be {settings.run}; nothing was written")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
