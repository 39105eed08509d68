"""What the examples share, in place of your data and networks: scikit-learn's handwritten digits, and a network."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

CLASSES = 10


def digits() -> TensorDataset:
    """1,797 grey images (1, 8, 8) from 0 to 1, their labels, and their positions in the set."""
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1) / 16
    return TensorDataset(images, torch.tensor(found.target), torch.arange(len(images)))


def network(width: int) -> nn.Module:
    """A small convolutional network."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, CLASSES),
    )


def trained_teacher(steps: int = 150) -> nn.Module:
    """A wide network that has seen the digits for a few seconds."""
    torch.manual_seed(0)
    images, labels, _ = digits().tensors
    teacher = network(32)
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=0.01)
    for _ in range(steps):
        rows = torch.randint(len(images), (128,))
        loss = nn.functional.cross_entropy(teacher(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    teacher.zero_grad()
    return teacher.eval()
