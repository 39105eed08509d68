"""ResNet18 and ResNet50 with a stem for small images: the ImageNet networks of He et al. 2016 with a 3x3 first layer.

Four stages of 64 to 512 channels (arXiv 1512.03385, table 1), a stem that keeps the resolution and no first pooling.
The state dict is that of RepDistiller and mdistiller, key for key; the shortcut is called ``shortcut``, the head
``linear``. For the networks with ImageNet's own stem use ``torchvision/resnet18`` and its like.
"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from mcld.models._zoo import ZooModel, init_fan_out, pool
from mcld.registry import register_model


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)
        self.relu = nn.ReLU()  # the last one is a module, so that a hook finds what it gets

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, width, H/stride, W/stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(y + self.shortcut(x))
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)
        self.relu = nn.ReLU()  # as above

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 4·width, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        out: Tensor = self.relu(y + self.shortcut(x))
        return out


class DeepResNet(ZooModel):
    """A four-stage ResNet for small images.

    Args:
        block: the kind of block.
        depths: blocks of each stage.
        num_classes: number of logits.
        in_channels: channels of the images.
    """

    stages = ("layer1", "layer2", "layer3", "layer4")
    head = "linear"

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for i, depth in enumerate(depths):
            width = 64 * 2**i
            outputs = width * block.expansion
            first = block(inputs, width, 1 if i == 0 else 2)
            setattr(self, f"layer{i + 1}", nn.Sequential(first, *(block(outputs, width, 1) for _ in range(depth - 1))))
            inputs = outputs
        self.linear = nn.Linear(inputs, num_classes)
        init_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        logits: Tensor = self.linear(pool(x))
        return logits


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


register_model("ResNet18")(partial(DeepResNet, BasicBlock, (2, 2, 2, 2)))
register_model("ResNet50")(partial(DeepResNet, Bottleneck, (3, 4, 6, 3)))
