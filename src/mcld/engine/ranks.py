"""What every rank does its share of without learning: evaluation, and the teacher's logits."""

from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor

from mcld.assembly.choices import teacher_channels_last
from mcld.assembly.parts import Parts
from mcld.configs.schema import RunSettings
from mcld.data import Split, eval_batches
from mcld.evaluation import Accuracy, evaluate, measure
from mcld.teacher import LiveTeacher, StoredTeacher, plain_logits


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
    batches = eval_batches(
        parts.data.val,
        large_batch(parts.settings),
        device=fabric.device,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=parts.settings.data.workers,
    )
    reduce: Callable[[Tensor], Tensor] = lambda sums: sum_over_ranks(fabric, sums)  # noqa: E731
    with fabric.autocast():
        return evaluate(network, batches, reference=reference, predictions=predictions, reduce=reduce)


def evaluate_teacher(
    fabric: Fabric,
    settings: RunSettings,
    split: Split,
    teacher: LiveTeacher | StoredTeacher,
    predictions: Tensor | None = None,
) -> Accuracy:
    """Evaluate the teacher like :func:`evaluate_on`; what is stored is not computed again."""
    index, logits = plain_share(fabric, settings, split, teacher)
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
