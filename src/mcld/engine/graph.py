"""A training step as one launch: captured once as a CUDA graph, then replayed.

Small networks on a GPU wait for their launches: a step of resnet8x4 at batch 64 is several hundred kernels of a few
microseconds each. A graph starts all of them at once. What it asks for: the same tensors at the same places in every
step (:class:`StepGraph` copies each batch into them), shapes that do not change, and nothing that waits for the device.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Inputs: TypeAlias = Mapping[str, Tensor]
"""What a step reads."""
Given: TypeAlias = Mapping[str, Tensor | float]
"""What a step is given: for it a number is a scalar tensor, int64 or float64."""
WARM_UP = 3
"""Steps before the capture, undone afterwards: in them libraries choose their kernels and take their memory."""


class StepGraph:
    """Does a step by replaying it; the results are those of the step itself, up to the rounding of other kernels.

    The first call makes everything ready: a few steps on the batch at hand, after which all state is put back as it
    was, then the capture. So the first step is a replay, too, and a run that was resumed computes like one that was
    not.

    Args:
        step: does one step on its inputs, reading and writing tensors that stay where they are; returns nothing.
        modules: whose parameters, buffers and other tensors it changes.
        optimizer: whose state it changes; its learning rates become tensors (:func:`set_learning_rate`).
        more: further tensors that it changes.
        capture: False does everything but the capture, on any device: for tests.

    Raises:
        RuntimeError: by the first call, when the step cannot be captured; all state is as it was before.
    """

    def __init__(
        self,
        step: Callable[[Inputs], None],
        modules: Iterable[nn.Module],
        optimizer: torch.optim.Optimizer,
        more: Callable[[], Iterable[Tensor]] = tuple,
        *,
        capture: bool = True,
    ) -> None:
        self._step, self._optimizer, self._more, self._capture = step, optimizer, more, capture
        self._modules = list(modules)
        self._places: dict[str, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def ready(self) -> bool:
        """Whether the step has been captured."""
        return bool(self._places)

    def fits(self, given: Given) -> bool:
        """Whether a batch has the shapes that were captured, or nothing has been captured yet."""
        if not self._places:
            return True
        return given.keys() == self._places.keys() and all(
            not isinstance(value, Tensor)
            or (value.shape == self._places[name].shape and value.dtype == self._places[name].dtype)
            for name, value in given.items()
        )

    def __call__(self, given: Given) -> None:
        """Do the step on a batch that :meth:`fits`."""
        if not self._places:
            self._prepare(given)
        for name, value in given.items():
            if isinstance(value, Tensor):
                self._places[name].copy_(value, non_blocking=True)
            else:
                self._places[name].fill_(value)  # a copy from the CPU would be waited for
        if self._graph is None:
            self._step(self._places)
        else:
            self._graph.replay()

    def _prepare(self, given: Given) -> None:
        make_capturable(self._optimizer)
        device = next(value.device for value in given.values() if isinstance(value, Tensor))
        places = {name: _place(value, device) for name, value in given.items()}
        before = _Snapshot(self._modules, self._optimizer, self._more)
        try:
            if not self._capture:
                for _ in range(WARM_UP):
                    self._step(places)
            else:
                stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    for _ in range(WARM_UP):
                        self._step(places)
                torch.cuda.current_stream().wait_stream(stream)
                before.restore()  # a capture runs nothing; it must find the optimizer's state there
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self._step(places)
                self._graph = graph
        finally:
            before.restore()
        self._places = places


class _Snapshot:
    """What a step changes, to be put back in place."""

    def __init__(
        self, modules: list[nn.Module], optimizer: torch.optim.Optimizer, more: Callable[[], Iterable[Tensor]]
    ) -> None:
        self._modules, self._optimizer, self._more = modules, optimizer, more
        self._tensors = [(tensor, tensor.detach().clone()) for tensor in self._all()]
        self._known = {id(tensor) for tensor, _ in self._tensors}
        self._random = torch.get_rng_state()
        self._device_random = torch.cuda.get_rng_state() if _cuda_runs() else None

    def _all(self) -> list[Tensor]:
        own = [tensor for module in self._modules for tensor in (*module.parameters(), *module.buffers())]
        # What is no buffer, as data parallelism would send it round: the rows of a bank.
        parts = [part for module in self._modules for part in module.modules()]
        states = [value for state in (*self._optimizer.state.values(), *map(vars, parts)) for value in state.values()]
        return [*own, *(value for value in states if isinstance(value, Tensor)), *self._more()]

    @torch.no_grad()
    def restore(self) -> None:
        for tensor, value in self._tensors:
            tensor.copy_(value)
        for tensor in self._all():
            if id(tensor) not in self._known:
                tensor.zero_()  # the state of an optimizer begins with zeros
        torch.set_rng_state(self._random)
        if self._device_random is not None:
            torch.cuda.set_rng_state(self._device_random)


def _place(value: Tensor | float, device: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        return value.clone()
    return torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64, device=device)


def _cuda_runs() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # torch's own


def make_capturable(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer be captured: learning rates become tensors, on the device of their parameters."""
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(float(group["lr"]), device=group["params"][0].device)
        if "capturable" in group and group["params"][0].is_cuda:
            group["capturable"] = True


def plain_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of an optimizer, as if it had not been made capturable."""
    state = optimizer.state_dict()
    groups = [
        {**group, "lr": float(group["lr"]), **({"capturable": False} if "capturable" in group else {})}
        for group in state["param_groups"]
    ]
    return {**state, "param_groups": groups}


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameters, in place where a graph reads it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
