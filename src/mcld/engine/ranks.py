"""What every rank does its share of without learning: evaluation, and the teacher's logits."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from mcld.assembly.choices import teacher_channels_last
from mcld.assembly.parts import Parts
from mcld.configs.schema import RunSettings
from mcld.data import Batch, Split, eval_batches
from mcld.evaluation import Accuracy, evaluate, measure
from mcld.evaluation.calibration import most_likely
from mcld.teacher import LiveTeacher, StoredTeacher, Teacher, plain_logits


class Judged(NamedTuple):
    """The teacher of a run, and what it said of the validation images.

    Attributes:
        teacher: the source of its logits; None without one, as all the rest.
        predictions: (N,) its class of each image, int64; 0 for those of other ranks.
        confidences: (N,) the probability of that class; 0 for those of other ranks.
        accuracy: of them.
    """

    teacher: Teacher | None
    predictions: Tensor | None
    confidences: Tensor | None
    accuracy: Accuracy | None


NO_TEACHER = Judged(None, None, None, None)


def live_teacher(fabric: Fabric, parts: Parts) -> LiveTeacher | None:
    """The teacher of a run on its device, if there is one."""
    if parts.teacher is None:
        return None
    channels_last = teacher_channels_last(parts.settings)
    return LiveTeacher(fabric.to_device(parts.teacher), parts.distiller.teacher_features, channels_last=channels_last)


def evaluate_on(
    fabric: Fabric,
    parts: Parts,
    network: torch.nn.Module,
    *,
    reference: Tensor | None = None,
    predictions: Tensor | None = None,
) -> Accuracy:
    """Evaluate on the validation split; every rank takes its share, every image counts once."""
    batches = _validation_batches(fabric, parts)
    reduce: Callable[[Tensor], Tensor] = lambda sums: sum_over_ranks(fabric, sums)  # noqa: E731
    with fabric.autocast():
        return evaluate(network, batches, reference=reference, predictions=predictions, reduce=reduce)


def network_outputs(fabric: Fabric, parts: Parts, network: torch.nn.Module) -> Tensor:
    """A network's logits (N, C) for the validation images, float32, on every rank, as :func:`evaluate_on` sees them."""
    found: Tensor | None = None
    training = network.training
    network.eval()
    with torch.no_grad(), fabric.autocast():
        for batch in _validation_batches(fabric, parts):
            logits = network(batch.image).float()
            if found is None:
                found = logits.new_zeros(len(parts.data.val), logits.shape[1])
            found[batch.index] = logits
    network.train(training)
    if found is None:  # a rank without an image
        found = torch.zeros(len(parts.data.val), len(parts.data.info.classes), device=fabric.device)
    return sum_over_ranks(fabric, found)


def _validation_batches(fabric: Fabric, parts: Parts) -> Iterator[Batch]:
    return eval_batches(
        parts.data.val,
        large_batch(parts.settings),
        device=fabric.device,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=parts.settings.data.workers,
    )


def evaluate_teacher(
    fabric: Fabric,
    settings: RunSettings,
    split: Split,
    teacher: LiveTeacher | StoredTeacher,
    predictions: Tensor | None = None,
    confidences: Tensor | None = None,
) -> Accuracy:
    """Evaluate the teacher like :func:`evaluate_on`; what is stored is not computed again."""
    index, logits = plain_share(fabric, settings, split, teacher)
    if confidences is not None:
        confidences[index] = most_likely(logits)[1]
    labels = split.labels.to(fabric.device)[index]
    answers = zip(*(torch.split(part, 1024) for part in (index, labels, logits)), strict=True)
    return measure(answers, predictions=predictions, reduce=lambda sums: sum_over_ranks(fabric, sums))


def plain_share(
    fabric: Fabric, settings: RunSettings, split: Split, teacher: LiveTeacher | StoredTeacher
) -> tuple[Tensor, Tensor]:
    """This rank's share of the teacher's logits of the plain views; see :func:`mcld.teacher.plain_logits`."""
    with fabric.autocast():
        return plain_logits(
            teacher,
            split,
            fabric.device,
            rank=fabric.global_rank,
            world=fabric.world_size,
            workers=settings.data.workers,
            batch_size=large_batch(settings),
        )


def large_batch(settings: RunSettings) -> int:
    """Images in a batch where nothing is learnt, so that its size makes no difference but for the speed."""
    return max(int(settings.data.batch_size), 256)


def sum_over_ranks(fabric: Fabric, sums: Tensor) -> Tensor:
    """The sum of a tensor over the ranks."""
    if fabric.world_size == 1:
        return sums
    torch.distributed.all_reduce(sums)
    return sums
