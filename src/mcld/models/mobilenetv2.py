"""MobileNetV2 as CIFAR distillation uses it: expansion 6, half width (Sandler et al. 2018, arXiv 1801.04381).

Plain ReLU and a stem of stride 2. The state dict is that of RepDistiller and mdistiller, key for key.
"""

from torch import Tensor, nn

from mcld.models._zoo import ZooModel, conv_bn_relu, init_fan_out, pool
from mcld.registry import register_model

# Expansion, channels, blocks and stride of each stage, at half width.
_STAGES = (
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)


class Block(nn.Module):
    """Expand, filter each channel, project; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *conv_bn_relu(inputs, hidden, 1),
            *conv_bn_relu(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


@register_model("MobileNetV2", aliases=["mobile_half"], lr=0.01)
class MobileNetV2(ZooModel):
    """MobileNetV2 at half width; its stages end where the resolution or the role of the blocks changes."""

    stages = ("blocks.1", "blocks.2", "blocks.4", "blocks.6")
    head = "classifier.0"

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*conv_bn_relu(in_channels, 16, 3, 2))
        stages, inputs = [], 16
        for expansion, outputs, count, stride in _STAGES:
            rest = (Block(outputs, outputs, 1, expansion) for _ in range(count - 1))
            stages.append(nn.Sequential(Block(inputs, outputs, stride, expansion), *rest))
            inputs = outputs
        self.blocks = nn.Sequential(*stages)
        self.conv2 = nn.Sequential(*conv_bn_relu(inputs, 1280, 1))
        last = nn.Linear(1280, num_classes)
        self.classifier = nn.Sequential(last)
        init_fan_out(self)
        nn.init.normal_(last.weight, 0.0, 0.01)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W)."""
        logits: Tensor = self.classifier(pool(self.conv2(self.blocks(self.conv1(x)))))
        return logits
