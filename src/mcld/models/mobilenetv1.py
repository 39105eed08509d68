"""MobileNetV1 for ImageNet (Howard et al. 2017, arXiv 1704.04861), the student of the published ResNet50 pairs.

The state dict is that of mdistiller, key for key: ``model.0.{0,1}`` for the stem, ``model.#.{0,1,3,4}`` for each
depthwise-separable block (depthwise convolution, BatchNorm, pointwise convolution, BatchNorm) and ``fc``.
"""

from torch import Tensor, nn

from mcld.models._zoo import ZooModel, conv_bn_relu, pool
from mcld.registry import register_model

# Output channels and stride of each depthwise-separable block.
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


@register_model("MobileNetV1", lr=0.01, input_size=224)
class MobileNetV1(ZooModel):
    """MobileNetV1 at full width; it divides the image size by 32."""

    stages = ("model.3", "model.5", "model.11", "model.13")
    head = "fc"

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        blocks, inputs = [nn.Sequential(*conv_bn_relu(in_channels, 32, 3, 2))], 32
        for outputs, stride in _BLOCKS:
            depthwise = conv_bn_relu(inputs, inputs, 3, stride, groups=inputs)
            blocks.append(nn.Sequential(*depthwise, *conv_bn_relu(inputs, outputs, 1)))
            inputs = outputs
        self.model = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W)."""
        logits: Tensor = self.fc(pool(self.model(x)))
        return logits
