"""One network on one data set."""

import math

from mcld.assembly.objects import NO_OBJECTS, Objects
from mcld.assembly.parts import build_parts
from mcld.commands.run import describe_parts, launch
from mcld.configs.schema import Train
from mcld.display import Display
from mcld.engine.ranks import evaluate_on
from mcld.errors import RunError
from mcld.evaluation import Accuracy


def evaluate_network(settings: Train, display: Display, objects: Objects = NO_OBJECTS) -> Accuracy:
    """Evaluate ``settings.model`` on the validation data of ``settings.data`` and print what came out.

    Raises:
        RunError: when the answers are no numbers.
        InputError: when the network and the data do not fit.
    """
    parts = build_parts(settings, objects)
    fabric = launch(parts.settings)
    parts = parts.on(fabric.device)
    for line in [*parts.plan.notes, *describe_parts(parts)]:
        display.line(line)
    network = fabric.to_device(parts.student)
    accuracy = evaluate_on(fabric, parts, network)
    if not math.isfinite(accuracy.loss):
        raise RunError(
            f"{settings.model.name} answers NaN or Inf: its weights are broken, or its normalisation is wrong"
        )
    display.line(
        f"top-1 {accuracy.top1:.2%}, top-5 {accuracy.top5:.2%}, mean per-class {accuracy.balanced:.2%}, "
        f"cross-entropy {accuracy.loss:.4f} on {accuracy.count:,} images"
    )
    return accuracy
