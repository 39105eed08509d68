"""What a run would do and how long it would take, without doing it."""

import torch

from mcld.assembly.choices import describe_choices
from mcld.assembly.parts import build_parts
from mcld.assembly.plan import default_run_name, settle
from mcld.commands.run import check_place, describe_parts, launch
from mcld.configs.schema import Distill, Train
from mcld.configs.values import with_values
from mcld.display import Display
from mcld.engine.loop import Loop
from mcld.engine.ranks import evaluate_on, live_teacher
from mcld.engine.stop import StopRequest
from mcld.runs import RunDirectory
from mcld.teacher import check_teacher

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
    teacher = live_teacher(fabric, parts)
    if teacher is not None and isinstance(settings, Distill):
        accuracy = evaluate_on(fabric, parts, teacher.network)
        check_teacher(settings.teacher.name, accuracy, allow_near_chance=settings.teacher.allow_near_chance)
    asked = teacher if parts.method.needs else None
    loop = Loop(fabric, parts, asked, None, RunDirectory(str(settings.run)), display, StopRequest())
    for note in loop.loader.notes:
        display.line(note)
    if parts.method.training_bank:  # the time of a step does not depend on what is in it
        images, classes = len(parts.data.train), len(parts.data.info.classes)
        index = torch.arange(images, device=fabric.device)
        parts.method.fill_bank(torch.randn(images, classes).to(fabric.device), parts.data.train.labels, index)
        display.line(f"bank: random numbers in place of the teacher's logits of all {images:,} training images")
    per_step, terms = loop.time_steps(WARM_UP, TIMED)
    schedule, steps = settings.schedule, loop.total
    display.line(
        f"{schedule.epochs} epochs of {loop.steps:,} steps, batch {settings.data.batch_size}, "
        f"{schedule.name} schedule, lr {schedule.lr:g}"
    )
    display.line(f"{fabric.device.type}: {describe_choices(settings)}")
    shown = "  ".join(f"{name} {value:.3f}" for name, value in terms.items())
    display.line(f"loss terms at the first weights: {shown}")
    display.line(
        f"about {_duration(per_step * steps)} of training, evaluation not counted "
        f"({settings.data.batch_size / per_step:,.0f} images/s over at most {TIMED} steps)"
    )
    display.line(f"the run directory would be {settings.run}; nothing was written")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
