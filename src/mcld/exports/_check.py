"""Whether an export answers as the network does, and what it costs to run it."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from mcld.errors import RunError
from mcld.exports._base import Export, Job, Runner

TOLERANCE = 1e-3
"""The largest difference of an exact export's logits, as a share of the largest logit, or of 1 if that is smaller."""
LEAST = 0.9
"""The least share of images on which an export that is not exact has the same class."""
BATCHES = (1, 32)
"""Images in a batch whose latency is measured."""
SECONDS = 1.0
"""How long each batch of each network is measured, about."""


@dataclass
class Row:
    """One line of the table.

    Attributes:
        name: what was run.
        megabytes: of its file (10⁶ bytes).
        top1: on the validation images, a share; None where they are not at hand.
        agreement: share of images with the class that the student has in PyTorch.
        difference: the largest of its logits to the student's in PyTorch; None for another network.
        latency: milliseconds of a batch, by the number of its images: median and 95th percentile.
    """

    name: str
    megabytes: float
    top1: float | None = None
    agreement: float | None = None
    difference: float | None = None
    latency: dict[int, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        found = asdict(self)
        found["latency"] = {
            str(batch): {"median_ms": middle, "p95_ms": high} for batch, (middle, high) in self.latency.items()
        }
        return found


def compare(
    form: Export, job: Job, got: Tensor, probabilities: Tensor | None, reference: Tensor
) -> tuple[float, float]:
    """Compare an export's answers with the network's.

    Args:
        form: of the export.
        job: what was exported.
        got: its logits (N, C).
        probabilities: (N, C), where it gives any.
        reference: the network's own logits (N, C).

    Returns:
        The largest difference of a logit, and the share of images with the same class.

    Raises:
        RunError: when they do not agree, with the figures.
    """
    if got.shape != reference.shape or not bool(got.isfinite().all()):
        what = f"logits of shape {tuple(got.shape)}" if got.shape != reference.shape else "NaN or Inf"
        raise RunError(
            f"the {form.name} export was refused, and nothing was written: it answers {what}; expected finite logits "
            f"of shape {tuple(reference.shape)}"
        )
    difference = (got.double() - reference.double()).abs().max().item()
    agreement = (got.argmax(dim=1) == reference.argmax(dim=1)).double().mean().item()
    allowed = TOLERANCE * max(1.0, reference.abs().max().item())
    if agreement < LEAST if not form.exact else difference > allowed:
        bound = f"at most {allowed:.2g}" if form.exact else f"the same class for at least {LEAST:.0%}"
        raise RunError(
            f"the {form.name} export was refused, and nothing was written: of {len(reference):,} images "
            f"{agreement:.1%} have the same class as in PyTorch, and logits differ by up to {difference:.3g}; "
            f"expected {bound}"
        )
    if probabilities is not None:
        expected = (got.double() / job.temperature).softmax(dim=1)
        off = (probabilities.double() - expected).abs().max().item()
        if not off <= (1e-4 if form.exact else 1e-2):
            raise RunError(
                f"the {form.name} export was refused, and nothing was written: its probabilities are not those of its "
                f"logits at the temperature {job.temperature:g}: they differ by up to {off:.3g}"
            )
    return difference, agreement


def answers(run: Callable[[Tensor], tuple[Tensor, Tensor | None]], batches: Sequence[Tensor]) -> tuple[Any, Any]:
    """Logits and probabilities (N, C) for all images; the latter None where there are none."""
    rows = [run(images) for images in batches]
    logits = torch.cat([row[0].float() for row in rows])
    return logits, None if rows[0][1] is None else torch.cat([row[1] for row in rows if row[1] is not None])


def measure_latency(runs: Sequence[tuple[Row, Runner, Callable[[Tensor], Any]]], images: Tensor) -> None:
    """Fill in what each costs, in turn, so that what else the machine does falls on all alike.

    Args:
        runs: for each row what runs, and what makes its input of images.
        images: uint8 (n, channels, H, W); they are repeated for larger batches.
    """
    for size in BATCHES:
        batch = images[torch.arange(size) % len(images)]
        given = [(row, run, prepare(batch)) for row, run, prepare in runs]
        slowest = 0.0
        for _, run, inputs in given:  # warm up
            run(inputs)
            began = time.perf_counter()
            run(inputs)
            slowest = max(slowest, time.perf_counter() - began)
        rounds = max(5, min(100, math.ceil(SECONDS / max(slowest, 1e-6))))
        times: list[list[float]] = [[] for _ in given]
        for _ in range(rounds):
            for kept, (_, run, inputs) in zip(times, given, strict=True):
                began = time.perf_counter()
                run(inputs)
                kept.append(1000 * (time.perf_counter() - began))
        for kept, (row, _, _) in zip(times, given, strict=True):
            row.latency[size] = statistics.median(kept), sorted(kept)[math.ceil(0.95 * len(kept)) - 1]


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as lines of text."""
    head = ["", "top-1", "MB", *(f"ms, batch {size}" for size in BATCHES), "agreement", "largest difference"]
    cells = [head]
    for row in rows:
        spans = [f"{row.latency[size][0]:.2f} ({row.latency[size][1]:.2f})" for size in BATCHES]
        cells.append(
            [
                row.name,
                "not measured" if row.top1 is None else f"{row.top1:.2%}",
                f"{row.megabytes:.2f}",
                *spans,
                "" if row.agreement is None else f"{row.agreement:.2%}",
                "" if row.difference is None else f"{row.difference:.2g}",
            ]
        )
    widths = [max(len(line[place]) for line in cells) for place in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
