"""Joining the batches of data-parallel ranks."""

import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


def gather_rows(x: Tensor) -> Tensor:
    """The rows of all ranks, in rank order, with gradient.

    Every rank must call it with the same shape, and run the backward pass. A rank's rows get the sum of the gradients
    that all ranks compute for them. Where every rank evaluates the same loss on the joined rows and the parameters'
    gradients are then averaged over the ranks, as DistributedDataParallel does, the result is exactly the gradient of
    that loss: a sum of W equal parts, divided by W.

    Args:
        x: (n, ...), of any dtype.

    Returns:
        (W · n, ...) for W ranks; ``x`` itself on a single process.

    Example:
        >>> import torch
        >>> from mcld.distributed import gather_rows
        >>> gather_rows(torch.arange(3)).tolist()  # one process
        [0, 1, 2]
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    gathered: Tensor = _GatherRows.apply(x)
    return gathered


def leave_in_order(seconds: float = 10.0) -> None:
    """Give rank 0 time to leave by itself when another rank has failed.

    Lightning Fabric's watcher looks every few seconds, and would end it by SIGKILL at once, before it has said why.
    """
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            end = getattr(thread, "_terminate_all", None)
            if end is not None:
                vars(thread)["_terminate_all"] = functools.partial(_after, seconds, end)


def _after(seconds: float, action: Callable[[], None]) -> None:
    time.sleep(seconds)
    action()


def failed_first(status: int) -> int | None:
    """Call it when this rank fails: None for the first rank that does, whose part it is to tell why.

    Args:
        status: this rank's exit status.

    Returns:
        For the others the first one's exit status: they most often fail because it is gone.
    """
    if not dist.is_available() or not dist.is_initialized():
        return None
    own = f"{dist.get_rank()} {status}"
    try:
        first = dist.distributed_c10d._get_default_store().compare_set("mcld/failed", "", own).decode()
    except RuntimeError:  # rank 0 keeps the store, and was killed: had it failed, it would have waited for the others
        return None if dist.get_rank() == 1 else status
    return None if first == own else int(first.split()[1])


def leave(status: int, seconds: float = 1.0) -> None:
    """End this process where it is one of several whose run has failed, and everything is said and saved; else nothing.

    To end in order would wait for the others, some of which may be gone, for seconds or without end. Rank 0 stays for
    a moment: the others ask it whether somebody has told why.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return
    if dist.get_rank() == 0 and dist.get_backend() == "gloo":
        kept = dist.distributed_c10d._get_default_store()
        dist.destroy_process_group()  # which is how they notice
        time.sleep(seconds)
        del kept
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class _GatherRows(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = x.shape[0]
        x = x.contiguous()
        out = x.new_empty(dist.get_world_size() * x.shape[0], *x.shape[1:])
        dist.all_gather(list(out.chunk(dist.get_world_size())), x)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]
