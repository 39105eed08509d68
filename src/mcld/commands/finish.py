"""The end of a run: what its probabilities are worth, the summary, the report, and what can be done next."""

import dataclasses
import os
import shlex
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor

from mcld.assembly.frozen import FeatureSplit
from mcld.assembly.parts import Parts
from mcld.assembly.published import published_block, published_lines
from mcld.configs.schema import Train
from mcld.display import Display
from mcld.engine.loop import Position
from mcld.engine.ranks import Judged, network_outputs, sum_over_ranks
from mcld.evaluation import Accuracy
from mcld.evaluation.calibration import Calibration, calibrate
from mcld.evaluation.cost import count_macs, count_parameters
from mcld.models.network import Network
from mcld.options import OBJECT
from mcld.runs import RunDirectory
from mcld.text import printable


@dataclasses.dataclass(frozen=True)
class Finished:
    """What is known once the weights are final.

    Attributes:
        summary: the content of ``summary.json``.
        logits: (N, C) of the student on the validation images, on the CPU.
        calibration: what its probabilities are worth.
        teacher: the teacher's class (N,) and probability (N,) for the validation images, on the CPU, if there is one.
    """

    summary: dict[str, Any]
    logits: Tensor
    calibration: Calibration
    teacher: tuple[Tensor, Tensor] | None


def finish(fabric: Fabric, parts: Parts, position: Position, judged: Judged, run: RunDirectory) -> Finished:
    """Fit the temperature of the student's softmax on the validation images (Guo et al. 2017), and sum up the run.

    It goes into ``model.json``. Every rank takes its share of the images.
    """
    logits = network_outputs(fabric, parts, parts.student).cpu()
    calibration = calibrate(logits, parts.data.val.labels.cpu())
    if fabric.is_global_zero:
        spec = dataclasses.replace(parts.student.spec, temperature=calibration.temperature)
        run.write_json(run.model, spec.to_dict())
    teacher = None
    if judged.predictions is not None and judged.confidences is not None:  # of which each rank has its share
        found = [sum_over_ranks(fabric, part.clone()).cpu() for part in (judged.predictions, judged.confidences)]
        teacher = found[0], found[1]
    return Finished(summarize(parts, position, judged.accuracy, calibration), logits, calibration, teacher)


def write_report(parts: Parts, finished: Finished, run: RunDirectory, display: Display) -> None:
    """Write the page about a finished run; a run whose page cannot be written is finished all the same."""
    if not parts.settings.report or os.environ.get("MCLD_REPORT") == "off":
        return
    try:
        from mcld.commands.report import report_runs
        from mcld.report.answers import answers_of, write_answers
        from mcld.report.run_facts import weights_digest

        digest = weights_digest(run)
        val = parts.data.val.source if isinstance(parts.data.val, FeatureSplit) else parts.data.val
        answers = answers_of(finished.logits, finished.teacher, val, digest, finished.calibration)
        write_answers(answers, run.answers)
        report_runs([str(run.path)], None)
    except Exception as error:  # of drawing or of the disk: the weights and the summary are there
        reason = " ".join(str(error).split()) or type(error).__name__
        display.line(
            f"warning: the report was not written ({reason}); write it later: mcld report {run.path}", style="yellow"
        )


def summarize(parts: Parts, position: Position, teacher: Accuracy | None, calibration: Calibration) -> dict[str, Any]:
    """The content of ``summary.json``; shares are in [0, 1]."""
    settings, history = parts.settings, position.history
    last = history[-1]
    best = max(history, key=lambda row: row["val_top1"])
    names = [name for name in ("val_top1", "val_top5", "val_loss", "agreement") if name in last]

    def cost(network: Network) -> dict[str, Any]:
        shape = (network.spec.in_channels, *parts.data.info.image_size)
        return {
            "name": network.spec.architecture,
            "parameters": count_parameters(network.model),
            "macs": count_macs(network.model, shape),
        }

    summary: dict[str, Any] = {
        "command": "train" if isinstance(settings, Train) else "distill",
        "data": parts.data.info.name,
        "images": {"train": len(parts.data.train), "validation": len(parts.data.val)},
        "notes": [printable(note) for note in parts.plan.notes],
        "views": parts.data.train.views.description,
        "method": None if isinstance(settings, Train) else settings.method.name,
        "seed": settings.seed,
        "epochs": len(history),
        "protocol": "last: after the last epoch; best: the epoch with the highest top-1 on the same validation images, "
        "so it is an optimistic number",
        "last": {name.removeprefix("val_"): last[name] for name in names},
        "best": {"epoch": int(best["epoch"]), **{name.removeprefix("val_"): best[name] for name in names}},
        "calibration": {
            "temperature": calibration.temperature,
            "error": calibration.before,
            "error_at_temperature": calibration.after,
        },
        "network": cost(parts.student),
        "teacher": None,
        "published": published_block(settings, parts.teacher.spec.architecture if parts.teacher else None),
        "seconds": round(position.seconds, 2),
        "images_per_second": last["images_per_second"],
        "curves": {name: [row[name] for row in history] for name in last},
    }
    if parts.teacher is not None and teacher is not None:
        summary["teacher"] = {**cost(parts.teacher), "top1": teacher.top1, "top5": teacher.top5, "stored": None}
    return summary


def summary_lines(summary: dict[str, Any], run: RunDirectory) -> list[str]:
    """What the terminal says at the end of a run."""
    last, best = summary["last"], summary["best"]
    lines = [
        f"last epoch: top-1 {last['top1']:.2%}, top-5 {last['top5']:.2%}"
        + (f", agreement with the teacher {last['agreement']:.2%}" if "agreement" in last else ""),
        f"best epoch ({best['epoch']}, chosen on these same images): "
        f"top-1 {best['top1']:.2%}, top-5 {best['top5']:.2%}",
    ]
    if summary["teacher"]:
        lines.append(
            f"teacher {summary['teacher']['name']}: top-1 {summary['teacher']['top1']:.2%}; the student has "
            f"{summary['network']['parameters'] / summary['teacher']['parameters']:.1%} of its parameters"
        )
    lines += published_lines(summary)
    known = summary["calibration"]
    lines.append(
        f"calibration error {known['error']:.2%}, and {known['error_at_temperature']:.2%} at the temperature "
        f"{known['temperature']:.3g}, which was fitted on these same images"
    )
    return [*lines, f"{summary['seconds']:,.1f} s; everything is in {run.path}"]


def next_lines(settings: Any, run: RunDirectory) -> list[str]:
    """What can be done with a finished run: commands, or Python where its network is an object."""
    path = shlex.quote(str(run.path))
    network = settings.model if isinstance(settings, Train) else settings.student
    commands = [f"mcld evaluate {path}", f"mcld predict {path} IMAGES", f"mcld export {path} --format onnx"]
    if network.name == OBJECT:
        commands = [f"mcld.load({str(run.path)!r}, model=...).predict(IMAGES)"]
    elif settings.data.name == OBJECT:
        commands[0] += " data=NAME"
    return ["next:", *(f"  {command}" for command in [*commands, f"mcld report {path}"])]
