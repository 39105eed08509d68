"""A plain PyTorch loop: ``python examples/plain_loop.py``."""

import torch
from torch import nn
from torch.utils.data import DataLoader

import mcld
from digits import digits, network, trained_teacher


def train(teacher: nn.Module, epochs: int = 5, most: int | None = None) -> tuple[nn.Module, list[float]]:
    """Distil a small network from the teacher; it, and the loss of each step."""
    loader = DataLoader(digits(), batch_size=64, shuffle=True, drop_last=True)
    student = network(8)
    distiller = mcld.Distiller(student, teacher, method="mcld", epochs=epochs)
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.05, momentum=0.9)
    total = min(epochs * len(loader), most or epochs * len(loader))
    losses: list[float] = []
    while len(losses) < total:
        for images, labels, index in loader:
            out = distiller(images, labels, progress=len(losses) / total, index=index)
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
            losses.append(out.loss.item())
            if len(losses) == total:
                break
    return student, losses


if __name__ == "__main__":
    student, losses = train(trained_teacher())
    print(f"loss {losses[0]:.2f} → {losses[-1]:.2f}")
    torch.save(student.state_dict(), "student.pt")
