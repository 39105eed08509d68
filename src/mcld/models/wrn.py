"""Wide residual networks for CIFAR: wrn_16_1 to wrn_40_2 (Zagoruyko and Komodakis 2016).

Pre-activation blocks (arXiv 1605.07146). The state dict is that of RepDistiller and mdistiller, key for key. Each
BatchNorm runs once per step: features come from hooks, not from calling a BatchNorm a second time.
"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from mcld.models._zoo import ZooModel, init_fan_out, pool
from mcld.registry import register_model


class Block(nn.Module):
    """BatchNorm, ReLU, convolution, twice; a bare 1x1 convolution as shortcut where the channels change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.convShortcut: nn.Module | None = None
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        active = F.relu(self.bn1(x))
        # A shortcut that changes the channels starts from the activated tensor, an identity shortcut from the raw one.
        shortcut: Tensor = x if self.convShortcut is None else self.convShortcut(active)
        y: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + shortcut


class Stage(nn.Module):
    """Blocks in a row, under the name ``layer`` that the published state dicts have."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int) -> None:
        super().__init__()
        rest = (Block(outputs, outputs, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(Block(inputs, outputs, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        y: Tensor = self.layer(x)
        return y


class WideResNet(ZooModel):
    """A wide residual network of 6n + 4 layers; its stage outputs are before BatchNorm and ReLU.

    Args:
        depth: 6n + 4.
        widen: channels of the stages, in multiples of 16, 32 and 64.
        num_classes: number of logits.
        in_channels: channels of the images.
    """

    stages = ("block1", "block2", "block3")
    preactivations = ("block2.layer.0.bn1", "block3.layer.0.bn1", "bn1")
    head = "fc"

    def __init__(self, depth: int, widen: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        one, two, three = 16 * widen, 32 * widen, 64 * widen
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.block1 = Stage(16, one, blocks, 1)
        self.block2 = Stage(one, two, blocks, 2)
        self.block3 = Stage(two, three, blocks, 2)
        self.bn1 = nn.BatchNorm2d(three)
        self.relu = nn.ReLU()  # a module, so that a hook finds the maps that are averaged
        self.fc = nn.Linear(three, num_classes)
        init_fan_out(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W)."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(pool(self.relu(self.bn1(x))))
        return logits


for _depth, _widen in ((16, 1), (16, 2), (16, 4), (28, 2), (28, 4), (40, 1), (40, 2)):
    _name, _alias = f"wrn_{_depth}_{_widen}", f"WRN-{_depth}-{_widen}"
    register_model(_name, aliases=[_alias])(partial(WideResNet, _depth, _widen))
