"""A training step never asks the device for a value: on an accelerator, each such question waits for all its work."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mcld.assembly.parts import build_parts
from mcld.commands.run import launch
from mcld.configs.compose import compose
from mcld.display import Display
from mcld.engine.loop import Loop
from mcld.engine.ranks import live_teacher
from mcld.engine.stop import StopRequest
from mcld.runs import RunDirectory

# Their results are Python values, or tensors whose size depends on values.
QUESTIONS = {"item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "__array__"}
OPERATORS = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "_unique2", "equal", "bincount"}


class Calls(TorchFunctionMode):
    """Notes the questions that Python code asks."""

    def __init__(self, asked: list[str]) -> None:
        super().__init__()
        self.asked = asked

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in QUESTIONS:
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operators that answer one, those of the backward pass and of the optimizer included."""

    def __init__(self, asked: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked = asked

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        masks = args[1] if name in ("index", "index_put", "index_put_") else ()
        if name in OPERATORS or any(mask is not None and mask.dtype is torch.bool for mask in masks):
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


def questions(action: Callable[[], object]) -> list[str]:
    asked: list[str] = []
    with Calls(asked), Operators(asked):
        action()
    return asked


def test_questions_are_noticed() -> None:
    x = torch.ones(3, requires_grad=True)
    assert "item" in questions(lambda: x.sum().item())
    assert "tolist" in questions(lambda: x.tolist())
    assert "_local_scalar_dense" in questions(lambda: bool(x.sum() > 1))
    assert questions(lambda: x[x > 0]) == ["index"]
    assert questions(lambda: torch.autograd.backward((x * 2).sum())) == []


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [("[mcld,kd]", "sgd"), ("dkd", "adamw"), ("dist", "sgd"), ("nkd", "sgd"), ("fitnet", "sgd")],
)
def test_no_step_asks(arrays: list[str], teacher: Path, tmp_path: Path, method: str, optimizer: str) -> None:
    words = [*arrays, f"teacher={teacher}", "student=resnet8", "schedule.epochs=3", f"optimizer={optimizer}"]
    words += [f"method={method}", "device=cpu", "threads=1", f"run={tmp_path / 'run'}"]
    settings = compose("distill", words)
    parts = build_parts(settings)
    fabric = launch(parts.settings)
    loop = Loop(
        fabric, parts, live_teacher(fabric, parts), None, RunDirectory(tmp_path), Display(silent=True), StopRequest()
    )
    bar = Display(silent=True).bar(loop.total, 0, "")
    loop._train_epoch(bar)
    loop.position.step = 0
    loop._watch = lambda: None  # type: ignore[method-assign]  # at the end of an epoch it does ask
    assert questions(lambda: loop._train_epoch(bar)) == []
    assert loop.position.step == loop.steps > 3
