"""ShuffleNetV2 at width 1 for CIFAR (Ma et al. 2018, arXiv 1807.11164).

A 1x1 stem keeps the resolution. The state dict is that of RepDistiller and mdistiller, key for key.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mcld.models._zoo import ZooModel, pool, shuffle
from mcld.registry import register_model


class DownBlock(nn.Module):
    """Halves the resolution: both branches see all channels and give half of the output each."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 2, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/2, W/2)."""
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)))))
        right = F.relu(self.bn5(self.conv5(right)))
        return shuffle(torch.cat((left, right), 1), 2)


class BasicBlock(nn.Module):
    """Lets half of the channels pass and works on the other half."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu = nn.ReLU()  # the last one is a module, so that a hook finds what it gets

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        passed, y = x.chunk(2, 1)
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(y)))))
        # What passes has been through a ReLU before, and a second one changes nothing.
        return shuffle(self.relu(torch.cat((passed, self.bn3(self.conv3(y))), 1)), 2)


@register_model("ShuffleV2", aliases=["ShuffleNetV2"], lr=0.01)
class ShuffleNetV2(ZooModel):
    """ShuffleNetV2 with stages of 116, 232 and 464 channels and 1024 pooled features."""

    stages = ("layer1", "layer2", "layer3")
    head = "linear"

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = _stage(24, 116, 4)
        self.layer2 = _stage(116, 232, 8)
        self.layer3 = _stage(232, 464, 4)
        self.conv2 = nn.Conv2d(464, 1024, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1024)
        self.relu = nn.ReLU()  # a module, so that a hook finds the maps that are averaged
        self.linear = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(pool(self.relu(self.bn2(self.conv2(x)))))
        return logits


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(DownBlock(inputs, outputs), *(BasicBlock(outputs) for _ in range(blocks - 1)))
