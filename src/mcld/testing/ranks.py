"""Two data-parallel ranks equal one process on the joined batch, in loss and in gradient: two real gloo processes."""

import datetime
import multiprocessing
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mcld.distiller import Distiller
from mcld.methods import Method
from mcld.methods._base import LOGITS
from mcld.testing.tiny import tiny_batch, tiny_distiller

Result: TypeAlias = dict[str, Any]
RANKS, ROWS = 2, 5
PROGRESS = (0.2, 0.5, 0.9)


def check_two_ranks(method: Method) -> None:
    """Check that two data-parallel processes train with a method as one process does on their joined batch.

    Both run :class:`mcld.Distiller` on two tiny networks for three steps: the losses, the gradients of the student and
    of what the method learns, and what the method keeps must be the same.

    Args:
        method: with options as it should be used; stays as it is. Its class must be importable, since the processes
            import it: at the top level of a module, with the call of this function in a test or behind ``if __name__
            == "__main__"``.

    Raises:
        AssertionError: for what differs.
    """
    faults = two_rank_faults({"the method": method})
    assert not faults, "; ".join(f"{name}: {fault}" for name, fault in faults.items())


def two_rank_faults(methods: Mapping[str, Method]) -> dict[str, str]:
    """The same check of many methods with one start of the processes.

    Returns:
        What differs, for each method of which something does.

    Raises:
        AssertionError: when a process fails, or a method cannot be sent to it.
    """
    try:
        sent = pickle.dumps(dict(methods))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise AssertionError(f"a method cannot be sent to another process ({error}); expected classes that can be "
                             "imported, at the top level of a module") from error  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_run_rank, args=(rank, folder, sent)) for rank in range(RANKS)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        codes = [process.exitcode for process in processes]
        assert codes == [0] * RANKS, f"the processes ended with {codes}; what they said is above"
        ranks = [torch.load(Path(folder) / f"rank{rank}.pt", weights_only=True) for rank in range(RANKS)]
    faults = {}
    for name, method in methods.items():
        fault = _compare(method, _steps(method, slice(None)), [rank[name] for rank in ranks])
        if fault:
            faults[name] = fault
    return faults


def _run_rank(rank: int, folder: str, sent: bytes) -> None:
    torch.set_num_threads(1)
    limit = datetime.timedelta(seconds=120)
    place = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=RANKS, timeout=limit)
    share = slice(rank * ROWS, (rank + 1) * ROWS)
    results = {name: _steps(method, share, parallel=True) for name, method in pickle.loads(sent).items()}
    torch.save(results, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


class _Loss(nn.Module):
    """The loss alone, so that data parallelism waits for no gradient of what has no part in it."""

    def __init__(self, distiller: Distiller) -> None:
        super().__init__()
        self.distiller = distiller

    def forward(self, images: Tensor, labels: Tensor, progress: float, index: Tensor) -> Tensor:
        distilled = self.distiller(images, labels, progress=progress, index=index)
        loss: Tensor = distilled.loss
        return loss


def _steps(method: Method, share: slice, *, parallel: bool = False) -> Result:
    """The losses and gradients of some steps on a share of the joined batches, and the state that they leave."""
    distiller = tiny_distiller(method)
    distiller.student.eval()  # the batch normalisation of SimKD's projector would see the rows of one rank
    module: nn.Module = _Loss(distiller)
    if parallel:
        module = DistributedDataParallel(module, find_unused_parameters=True)
    found: Result = {"losses": [], "gradients": []}
    for step, progress in enumerate(PROGRESS):
        images, labels, index = (part[share] for part in tiny_batch(step, RANKS * ROWS, method.views))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step)  # what a method draws is the same on every rank
            loss = module(images, labels, progress, index)
        distiller.zero_grad()
        torch.autograd.backward(loss)
        found["losses"].append(loss.item())
        named = {n: p.grad.clone() for n, p in distiller.named_parameters() if p.grad is not None and p.grad.any()}
        found["gradients"].append(named)
    found["state"] = dict(distiller.method.state_dict())
    return found


def _compare(method: Method, one: Result, ranks: list[Result]) -> str:
    """What differs, or nothing."""
    near: dict[str, Any] = {"atol": 1e-10, "rtol": 1e-10}
    if not method.needs <= LOGITS:
        near = {"atol": 1e-7, "rtol": 1e-6}  # CRD's banks are float32
    if not any(gradient.abs().max() > 1e-5 for gradient in one["gradients"][-1].values()):
        return "no gradient reaches the student: there is nothing to compare"
    for step, expected in enumerate(one["losses"]):
        losses = [rank["losses"][step] for rank in ranks]
        mean = sum(losses) / RANKS
        for loss in (*(losses if method.requires_global_batch else ()), mean):  # every rank has the joined loss
            if abs(loss - expected) > near["atol"] + near["rtol"] * abs(expected):
                return f"the loss of two ranks is {losses}, and {expected} on the joined batch"
        for number, rank in enumerate(ranks):
            try:
                torch.testing.assert_close(rank["gradients"][step], one["gradients"][step], **near)
                if step == len(PROGRESS) - 1:
                    torch.testing.assert_close(rank["state"], one["state"], **near)
            except AssertionError as error:
                said = " ".join(str(error).split())
                return f"rank {number} of two has another gradient or state than the joined batch: {said}"
    return ""
