"""The examples train on real digits for a few steps: the loss falls, and the teacher stays as it was."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

EXAMPLES = Path(__file__).parents[1] / "examples"
NEEDS = {"lightning_module": "lightning", "hf_trainer": "transformers", "accelerate_loop": "accelerate"}


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param], reason="the test extra has it")
    return importlib.import_module(request.param)


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    sys.path.insert(0, str(EXAMPLES))
    try:
        found: nn.Module = importlib.import_module("digits").trained_teacher(60)
    finally:
        sys.path.remove(str(EXAMPLES))
    return found


@pytest.fixture(autouse=True)
def unchanged(teacher: nn.Module) -> Iterator[None]:
    torch.manual_seed(1)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    yield
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def falls(losses: list[float]) -> bool:
    third = len(losses) // 3
    return sum(losses[-third:]) < 0.9 * sum(losses[:third])


def top1(network: nn.Module) -> float:
    images, labels, _ = importlib.import_module("digits").digits().tensors
    with torch.no_grad():
        output: Any = network.eval()(images)
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return float((logits.argmax(1) == labels).float().mean())


@pytest.mark.parametrize("example", ["plain_loop"], indirect=True)
def test_plain_loop(example: ModuleType, teacher: nn.Module) -> None:
    student, losses = example.train(teacher, most=120)
    assert falls(losses)
    assert top1(student) > 0.5


@pytest.mark.parametrize("example", ["accelerate_loop"], indirect=True)
def test_accelerate(example: ModuleType, teacher: nn.Module) -> None:
    student, losses = example.train(teacher, steps=75, cpu=True)
    assert falls(losses)
    assert top1(student) > 0.5


@pytest.mark.parametrize("example", ["timm_task"], indirect=True)
def test_timm_task(example: ModuleType, teacher: nn.Module) -> None:
    task, losses = example.train(teacher, steps=24)
    assert falls(losses)
    state = task.get_checkpoint_state()
    assert set(state["state_dict"]) == set(task.distiller[0].student.state_dict())
    assert state["task_state"]["steps"] == 24
    again, _ = example.train(teacher, steps=1)
    again.load_checkpoint_state(state["state_dict"], state["task_state"])
    assert again.steps == 24
    images, labels, _ = importlib.import_module("digits").digits()[:8]
    task.eval()
    again.eval()
    assert torch.equal(again(images, labels)["output"], task(images, labels)["output"])


@pytest.mark.parametrize("example", ["lightning_module"], indirect=True)
def test_lightning(example: ModuleType, teacher: nn.Module, tmp_path: Path) -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    module = example.train(teacher, steps=120, default_root_dir=tmp_path, enable_checkpointing=False, **quiet)
    assert top1(module.distiller.student) > 0.5
    assert {key.split(".")[1] for key in module.state_dict()} <= {"student", "method"}


@pytest.mark.parametrize("example", ["hf_trainer"], indirect=True)
def test_hugging_face(example: ModuleType, teacher: nn.Module, tmp_path: Path) -> None:
    trainer = example.train(teacher, str(tmp_path / "run"), steps=100)
    found = trainer.evaluate()
    assert found["eval_top1"] > 0.3
    trainer.model.student.save_pretrained(tmp_path / "student")
    assert (tmp_path / "student" / "model.safetensors").is_file()
    # a method on features finds the blocks of a transformer of Hugging Face by itself
    distiller = example.mcld.Distiller(example.student(), teacher, "sp", image_size=8)
    assert distiller.student_features.shapes().maps == ((32, 4, 4), (32, 4, 4))
