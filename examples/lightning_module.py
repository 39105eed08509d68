"""A Lightning module: ``pip install lightning``, ``python examples/lightning_module.py``."""

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mcld
from digits import digits, network, trained_teacher


class Distillation(lightning.LightningModule):
    """Distils a student. The teacher is no part of its checkpoints; the student is ``distiller.student``."""

    def __init__(self, student: nn.Module, teacher: nn.Module, method: str = "mcld") -> None:
        super().__init__()
        self.distiller = mcld.Distiller(student, teacher, method)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """One step; what it is made of is logged."""
        images, labels, index = batch
        progress = self.global_step / self.trainer.estimated_stepping_batches
        out: Any = self.distiller(images, labels, progress=progress, index=index)
        self.log_dict(out.terms)
        loss: Tensor = out.loss
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimizer for the student and for what the method learns."""
        return torch.optim.SGD(self.distiller.parameters(), lr=0.05, momentum=0.9)


def train(teacher: nn.Module, steps: int = 100, **trainer: Any) -> Distillation:
    """Distil a small network from the teacher."""
    module = Distillation(network(8), teacher)
    loader = DataLoader(digits(), batch_size=64, shuffle=True, drop_last=True)
    lightning.Trainer(max_steps=steps, **trainer).fit(module, loader)
    return module


if __name__ == "__main__":
    torch.save(train(trained_teacher()).distiller.student.state_dict(), "student.pt")
