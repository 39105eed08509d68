"""The CIFAR ResNets as first published, with shortcuts that have no parameters.

He et al. 2016 (arXiv 1512.03385), section 4.2, option A: where the shape changes, the shortcut takes every second pixel
and pads the new channels with zeros, half of them on each side. The state dict is that of the akamaster/
pytorch_resnet_cifar10 checkpoints, whose last layer is called ``linear``.
"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from mcld.models._zoo import ZooModel, pool
from mcld.options import Count
from mcld.registry import register_model


class Block(nn.Module):
    """Two 3x3 convolutions around a parameter-free shortcut; ``outputs`` is ``inputs`` or, at stride 2, twice that."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.pad = (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()  # the last one is a module, so that a hook finds what it gets

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        out: Tensor = self.relu(y + x)
        return out


class ResNetA(ZooModel):
    """A CIFAR ResNet of 6n + 2 layers with option-A shortcuts.

    Args:
        depth: 6n + 2.
        num_classes: number of logits.
        in_channels: channels of the images.
        width: channels of the stem and of the first stage, even; the later stages have twice and four times as many.
    """

    stages = ("layer1", "layer2", "layer3")
    head = "linear"

    def __init__(self, depth: int, num_classes: int, in_channels: int, *, width: Count = 16) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1)
        self.layer2 = _stage(width, 2 * width, blocks, 2)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2)
        self.linear = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W)."""
        x = F.relu(self.bn1(self.conv1(x)))
        logits: Tensor = self.linear(pool(self.layer3(self.layer2(self.layer1(x)))))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, stride), *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))


for _depth in (20, 32, 44, 56, 110):
    register_model(f"resnet{_depth}_a")(partial(ResNetA, _depth))
