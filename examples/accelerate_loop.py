"""Accelerate: ``pip install accelerate``, ``accelerate launch examples/accelerate_loop.py``."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

import mcld
from digits import digits, network, trained_teacher


def train(teacher: nn.Module, steps: int = 100, *, cpu: bool = False) -> tuple[nn.Module, list[float]]:
    """Distil a small network from the teacher; it, and the loss of each step."""
    accelerator = Accelerator(cpu=cpu)
    student = network(8)
    distiller = mcld.Distiller(student, teacher, method=["mcld", "kd"])
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.05, momentum=0.9)
    loader = DataLoader(digits(), batch_size=64, shuffle=True, drop_last=True)
    distiller, optimizer, loader = accelerator.prepare(distiller, optimizer, loader)  # the teacher moves along
    losses: list[float] = []
    while len(losses) < steps:
        for images, labels, index in loader:
            out = distiller(images, labels, progress=len(losses) / steps, index=index)
            optimizer.zero_grad()
            accelerator.backward(out.loss)
            optimizer.step()
            losses.append(out.loss.item())
            if len(losses) == steps:
                break
    return accelerator.unwrap_model(distiller).student, losses


if __name__ == "__main__":
    student, losses = train(trained_teacher())
    print(f"loss {losses[0]:.2f} → {losses[-1]:.2f}")
    torch.save(student.state_dict(), "student.pt")
