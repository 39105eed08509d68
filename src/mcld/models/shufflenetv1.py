"""ShuffleNetV1 with 3 groups for CIFAR (Zhang et al. 2018, arXiv 1707.01083).

A 1x1 stem keeps the resolution. The state dict is that of RepDistiller and mdistiller, key for key.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mcld.models._zoo import ZooModel, pool, shuffle
from mcld.registry import register_model

_GROUPS = 3


class Block(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1.

    The first block of a stage (``first``) halves the resolution and puts the averaged input beside its own
    ``outputs − inputs`` channels; the others add their input. A stage that starts from the stem's 24 channels does not
    group its first convolution.
    """

    def __init__(self, inputs: int, outputs: int, first: bool, from_stem: bool) -> None:
        super().__init__()
        self.first = first
        self.groups = 1 if from_stem else _GROUPS
        stride = 2 if first else 1
        own = outputs - inputs if first else outputs
        hidden = own // 4
        self.conv1 = nn.Conv2d(inputs, hidden, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, own, 1, groups=_GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(own)
        self.relu = nn.ReLU()  # the last one is a module, so that a hook finds what it gets

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        y = shuffle(F.relu(self.bn1(self.conv1(x))), self.groups)
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        out: Tensor = self.relu(torch.cat((y, F.avg_pool2d(x, 3, 2, 1)), 1) if self.first else x + y)
        return out


@register_model("ShuffleV1", aliases=["ShuffleNetV1"], lr=0.01)
class ShuffleNetV1(ZooModel):
    """ShuffleNetV1 with 3 groups and stages of 240, 480 and 960 channels."""

    stages = ("layer1", "layer2", "layer3")
    head = "linear"

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = _stage(24, 240, 4, from_stem=True)
        self.layer2 = _stage(240, 480, 8)
        self.layer3 = _stage(480, 960, 4)
        self.linear = nn.Linear(960, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W)."""
        x = F.relu(self.bn1(self.conv1(x)))
        logits: Tensor = self.linear(pool(self.layer3(self.layer2(self.layer1(x)))))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, from_stem: bool = False) -> nn.Sequential:
    rest = (Block(outputs, outputs, first=False, from_stem=False) for _ in range(blocks - 1))
    return nn.Sequential(Block(inputs, outputs, first=True, from_stem=from_stem), *rest)
