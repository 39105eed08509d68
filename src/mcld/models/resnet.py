"""The ResNets of CIFAR distillation: resnet8 to resnet110, and the wide resnet8x4 and resnet32x4.

Basic blocks in three stages, with 1x1 convolutions on the shortcuts that change shape (option B of He et al. 2016,
arXiv 1512.03385, section 4.2). The state dict is that of RepDistiller and mdistiller, key for key.
"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from mcld.models._zoo import ZooModel, init_fan_out, pool
from mcld.options import Count
from mcld.registry import register_model


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU()  # the last one is a module, so that a hook finds what it gets

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


class CifarResNet(ZooModel):
    """A CIFAR ResNet of 6n + 2 layers; ``width`` is the number of channels of the stem.

    Args:
        depth: 6n + 2.
        multiples: channels of the three stages, in multiples of the stem's.
        num_classes: number of logits.
        in_channels: channels of the images.
        width: channels of the stem, at least 1.
    """

    stages = ("layer1", "layer2", "layer3")
    head = "fc"

    def __init__(
        self, depth: int, multiples: tuple[int, int, int], num_classes: int, in_channels: int, *, width: Count = 16
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        one, two, three = (width * m for m in multiples)
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, one, blocks, 1)
        self.layer2 = _stage(one, two, blocks, 2)
        self.layer3 = _stage(two, three, blocks, 2)
        self.fc = nn.Linear(three, num_classes)
        init_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W)."""
        x = F.relu(self.bn1(self.conv1(x)))
        logits: Tensor = self.fc(pool(self.layer3(self.layer2(self.layer1(x)))))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, stride), *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))


for _depth in (8, 14, 20, 32, 44, 56, 110):
    register_model(f"resnet{_depth}")(partial(CifarResNet, _depth, (1, 2, 4)))
for _depth in (8, 32):
    register_model(f"resnet{_depth}x4")(partial(CifarResNet, _depth, (2, 4, 8), width=32))
