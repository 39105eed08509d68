"""One step of the optimizer, down the gradient of the loss, or down those of its parts."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule, _FabricOptimizer
from torch import Tensor, nn

from mcld.assembly.parted import PartedSGD, loss_parts
from mcld.data import Batch
from mcld.distiller import Distilled
from mcld.engine.ranks import sum_over_ranks
from mcld.methods import Method, Outputs


def step_inputs(batch: Batch, outputs: Outputs | None, *, progress: float, step: int) -> dict[str, Tensor | float]:
    """What a step on logits reads, by name: tensors and numbers."""
    given: dict[str, Tensor | float] = {"image": batch.image, "label": batch.label, "index": batch.index}
    given |= {"progress": float(progress), "step": step}
    if outputs is not None:
        given["teacher"] = outputs.logits
        if outputs.other is not None:
            given["teacher second"] = outputs.other.logits
    return given


def outputs_of(given: Mapping[str, Tensor]) -> Outputs | None:
    """The teacher's outputs among them."""
    if "teacher" not in given:
        return None
    second = given.get("teacher second")
    return Outputs(given["teacher"], other=None if second is None else Outputs(second))


def forward_of(fabric: Fabric, module: _FabricModule, optimizer: torch.optim.Optimizer) -> AbstractContextManager[None]:
    """What the forward pass runs in: data parallelism joins one gradient for each pass, so it must not join parts."""
    parted = isinstance(optimizer, PartedSGD) and fabric.world_size > 1
    return fabric.no_backward_sync(module, enabled=parted)


def descend(
    fabric: Fabric,
    module: _FabricModule,
    optimizer: _FabricOptimizer,
    out: Distilled,
    method: Method,
    clip: float | None,
) -> None:
    """Take a step, and forget the gradients.

    Args:
        fabric: launched.
        module: what was set up with the optimizer; its last forward pass ran in :func:`forward_of`.
        optimizer: as it was set up.
        out: of that forward pass.
        method: which says what its terms are about.
        clip: the largest norm of the whole gradient; None for none.
    """
    inner = optimizer.optimizer
    if isinstance(inner, PartedSGD):
        parts = loss_parts(out.terms, method, inner.parts)
        for left, (part, loss) in zip(reversed(range(len(parts))), parts.items(), strict=True):
            fabric.backward(loss, retain_graph=left > 0)
            inner.take(part)
        if fabric.world_size > 1:
            inner.average(lambda gradient: sum_over_ranks(fabric, gradient) / fabric.world_size)
        if clip is not None:
            inner.clip(clip)
    else:
        fabric.backward(out.loss)
        if clip is not None:
            # A norm that is no number shows in the next loss; checking it here would synchronise.
            fabric.clip_gradients(module, optimizer, max_norm=clip, error_if_nonfinite=False)
    optimizer.step()
    optimizer.zero_grad()


def share_buffers(fabric: Fabric, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give all ranks the first one's running statistics, which data parallelism does where it joins gradients."""
    if isinstance(optimizer, PartedSGD) and fabric.world_size > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)
