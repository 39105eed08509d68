"""A step that is replayed does what the step itself does. The capture itself needs a GPU: tests/test_cuda.py."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mcld.engine.graph import Inputs, StepGraph, make_capturable, set_learning_rate

Optimizer = Callable[[nn.Module], torch.optim.Optimizer]


class Training:
    """A small network with batch normalisation and dropout, its optimizer, and a sum of its losses."""

    def __init__(self, optimizer: Optimizer) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        self.optimizer = optimizer(self.network)
        self.total = torch.zeros(())

    def step(self, inputs: Inputs) -> None:
        loss = nn.functional.cross_entropy(self.network(inputs["images"]), inputs["labels"])
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.total += loss.detach()

    def graph(self) -> StepGraph:
        return StepGraph(self.step, [self.network], self.optimizer, lambda: [self.total], capture=False)

    def state(self) -> list[Tensor]:
        states = [v for state in self.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
        return [*self.network.state_dict().values(), *states, self.total]


def batches(n: int) -> list[dict[str, Tensor]]:
    g = torch.Generator().manual_seed(1)
    return [{"images": torch.randn(8, 6, generator=g), "labels": torch.arange(8) % 3} for _ in range(n)]


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3, fused=True)


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_it_does_what_the_step_does(optimizer: Optimizer) -> None:
    """From the first batch on, as if the steps before the capture had not been; learning rates change on the way."""
    eager, replayed = Training(optimizer), Training(optimizer)
    graph = replayed.graph()
    make_capturable(eager.optimizer)  # learning rates in float32
    random = torch.get_rng_state()
    for number, batch in enumerate(batches(5)):
        set_learning_rate(eager.optimizer, 0.1 / (number + 1))
        eager.step(batch)
    torch.set_rng_state(random)
    for number, batch in enumerate(batches(5)):
        set_learning_rate(replayed.optimizer, 0.1 / (number + 1))
        assert graph.fits(batch)
        graph(batch)
    assert graph.ready
    torch.testing.assert_close(replayed.state(), eager.state(), rtol=0, atol=0)


def test_it_goes_on_from_a_state() -> None:
    """What an optimizer brings along is not forgotten by getting ready."""
    whole, cut = Training(sgd), Training(sgd)
    graph = whole.graph()
    random = torch.get_rng_state()
    for batch in batches(4):
        graph(batch)
    torch.set_rng_state(random)
    first = cut.graph()
    for batch in batches(4)[:2]:
        first(batch)
    second = cut.graph()  # as after a resume
    for batch in batches(4)[2:]:
        second(batch)
    torch.testing.assert_close(cut.state(), whole.state(), rtol=0, atol=0)


def test_other_shapes_are_told() -> None:
    training = Training(sgd)
    graph = training.graph()
    batch = batches(1)[0]
    graph(batch)
    assert graph.fits(batch)
    assert not graph.fits({name: value[:4] for name, value in batch.items()})
    assert not graph.fits({"images": batch["images"]})
    assert not graph.fits({**batch, "images": batch["images"].double()})


def test_a_step_that_fails_changes_nothing() -> None:
    training = Training(sgd)
    before = [value.clone() for value in training.state()]
    count = 0

    def step(inputs: Inputs) -> None:
        nonlocal count
        training.step(inputs)
        count += 1
        if count == 2:
            raise RuntimeError("cannot be captured")

    graph = StepGraph(step, [training.network], training.optimizer, lambda: [training.total], capture=False)
    with pytest.raises(RuntimeError, match="cannot be captured"):
        graph(batches(1)[0])
    assert not graph.ready
    torch.testing.assert_close(training.state()[: len(before) - 1], before[:-1], rtol=0, atol=0)
    assert training.total == 0
