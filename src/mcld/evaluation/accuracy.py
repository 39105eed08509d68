"""Accuracy on a split, and agreement with another network."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcld.data import Batch


@dataclass(frozen=True)
class Accuracy:
    """How a network does on a split; every share is in [0, 1].

    Attributes:
        top1: share of images whose most likely class is right.
        top5: share of images whose label is among the five most likely classes (all classes, when there are fewer).
        balanced: top-1 averaged over the classes that occur.
        loss: mean cross-entropy in nats.
        agreement: share of images on which the most likely class is the reference's; None without a reference.
        count: images.
        classes: classes.
    """

    top1: float
    top5: float
    balanced: float
    loss: float
    agreement: float | None
    count: int
    classes: int


def evaluate(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    reference: Tensor | None = None,
    predictions: Tensor | None = None,
    reduce: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> Accuracy:
    """Evaluate a network, in evaluation mode and without gradients; its mode is restored.

    Args:
        network: from images to logits (B, C).
        batches: every image once; with several ranks, this rank's share.
        reference: (N,) another network's predicted classes, by image index.
        predictions: (N,) int64 tensor that is filled with the predicted classes, by image index.
        reduce: sums a tensor over the ranks.
    """
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            answers = ((batch.index, batch.label, network(batch.image)) for batch in batches)
            return measure(answers, reference=reference, predictions=predictions, reduce=reduce)
    finally:
        network.train(training)


def measure(
    answers: Iterable[tuple[Tensor, Tensor, Tensor]],
    *,
    reference: Tensor | None = None,
    predictions: Tensor | None = None,
    reduce: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> Accuracy:
    """Measure logits, given in parts: (index (B,), labels (B,), logits (B, C)). See :func:`evaluate`."""
    hits = totals = sums = None
    for index, label, answer in answers:
        logits = answer.float()
        if hits is None or totals is None or sums is None:
            hits, totals = (logits.new_zeros(logits.shape[1], dtype=torch.int64) for _ in range(2))
            sums = logits.new_zeros(3)  # loss, top-5 hits, agreements
        predicted = logits.argmax(dim=1)
        # Not bincount, nor a choice by mask: both would wait for an accelerator.
        hits.index_add_(0, label, (predicted == label).to(hits.dtype))
        totals.index_add_(0, label, torch.ones_like(label))
        sums[0] += F.cross_entropy(logits, label, reduction="sum")
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices
        sums[1] += (top == label[:, None]).any(dim=1).sum()
        if reference is not None:
            sums[2] += (predicted == reference[index]).sum()
        if predictions is not None:
            predictions[index] = predicted
    if hits is None or totals is None or sums is None:
        raise ValueError("there are no images to evaluate on")
    exact = torch.float32 if hits.device.type == "mps" else torch.float64
    everything = reduce(torch.cat([hits.to(exact), totals.to(exact), sums.to(exact)]))
    classes = len(hits)
    hits, totals, sums = everything[:classes], everything[classes : 2 * classes], everything[2 * classes :]
    count = int(totals.sum())
    loss, top5, agreements = (sums / count).tolist()
    occurs = totals > 0
    return Accuracy(
        top1=float(hits.sum()) / count,
        top5=top5,
        balanced=float((hits[occurs] / totals[occurs]).mean()),
        loss=loss,
        agreement=agreements if reference is not None else None,
        count=count,
        classes=classes,
    )
