"""The task interface of timm's train script (timm ≥ 1.0.24): ``python examples/timm_task.py``.

In ``train.py`` make the task with ``task = DistillationTask(mcld.Distiller(model, teacher, "mcld"), total_steps)``.
"""

from typing import Any

import timm
import torch
from timm.task import TrainingTask
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mcld
from digits import CLASSES, digits, trained_teacher


class DistillationTask(TrainingTask):
    """A task of timm's train script on a Distiller: what is trained, wrapped and saved is the student.

    What the method has learnt, and the step, are the task's own state: never part of the student's weights.

    Args:
        distiller: of student and teacher.
        total_steps: calls in training mode in the whole training, for the progress.
    """

    def __init__(self, distiller: mcld.Distiller, total_steps: int, **options: Any) -> None:
        super().__init__(**options)
        self.trainable_module = distiller
        self.distiller = (distiller,)  # in a tuple: the same module, not registered twice
        self.total_steps, self.steps = total_steps, 0

    def prepare_distributed(self, device_ids: list[int] | None = None, **ddp: Any) -> "DistillationTask":
        """Wrap all that is trained; the teacher is none of it."""
        self.trainable_module = nn.parallel.DistributedDataParallel(self.distiller[0], device_ids=device_ids, **ddp)
        return self

    def compile(self, backend: str = "inductor", mode: str | None = None, **options: Any) -> nn.Module:
        """Compile the student in place."""
        self.distiller[0].student.compile(backend=backend, mode=mode, **options)
        return self.distiller[0].student

    def get_eval_model(self, module: nn.Module | None = None, ema: bool = False) -> nn.Module | None:
        """The student."""
        found = super().get_eval_model(module=module, ema=ema)
        return getattr(getattr(found, "module", found), "student", found)

    def get_task_state(self, module: nn.Module | None = None, ema: bool = False) -> dict[str, Any]:
        """What the method has learnt, and how far training is."""
        return {"method": self.distiller[0].method.state_dict(), "steps": self.steps}

    def load_task_state(
        self, state: dict[str, Any] | None, strict: bool = True, module: nn.Module | None = None, ema: bool = False
    ) -> None:
        """Go on from there."""
        if state:
            self.distiller[0].method.load_state_dict(state["method"], strict=strict)
            self.steps = state["steps"]

    def forward(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The loss, the student's logits and the terms."""
        out = self.trainable_module(input, target, progress=min(self.steps / self.total_steps, 1.0))
        self.steps += self.training
        return {"loss": out.loss, "output": out.logits, **out.terms}


def train(teacher: nn.Module, steps: int = 100) -> tuple[DistillationTask, list[float]]:
    """Distil a ResNet of timm from the teacher, by the task alone, as the train script does."""
    student = timm.create_model("resnet10t", num_classes=CLASSES, in_chans=1)
    task = DistillationTask(mcld.Distiller(student, teacher, "mcld"), steps, verbose=False)
    optimizer = torch.optim.SGD(task.get_clip_parameters(), lr=0.05, momentum=0.9)
    loader = DataLoader(digits(), batch_size=64, shuffle=True, drop_last=True)
    losses: list[float] = []
    task.train()
    while task.steps < steps:
        for images, labels, _ in loader:
            result = task(images, labels)
            optimizer.zero_grad()
            result["loss"].backward()
            optimizer.step()
            losses.append(result["loss"].item())
            if task.steps == steps:
                break
    return task, losses


if __name__ == "__main__":
    task, losses = train(trained_teacher())
    print(f"loss {losses[0]:.2f} → {losses[-1]:.2f}")
    torch.save(task.get_checkpoint_state()["state_dict"], "student.pt")
