"""VGG with BatchNorm for CIFAR: vgg8, vgg11, vgg13, vgg16, vgg19 (Simonyan and Zisserman 2015, arXiv 1409.1556).

One Linear on pooled features instead of three. The state dict is that of RepDistiller and mdistiller, key for key.
"""

from functools import partial

from torch import Tensor, fx, nn
from torch.nn import functional as F

from mcld.errors import InputError
from mcld.models._zoo import ZooModel, init_fan_out, pool
from mcld.registry import register_model

_WIDTHS = (64, 128, 256, 512, 512)


class VGG(ZooModel):
    """A VGG of five blocks; images of 64 pixels or more pass one pooling more than smaller ones.

    Args:
        convs: convolutions of each of the five blocks.
        num_classes: number of logits.
        in_channels: channels of the images.
    """

    stages = ("relu1", "relu2", "relu3", "relu4")  # the field's; its tables leave the first block to the stem
    head = "classifier"

    def __init__(self, convs: tuple[int, int, int, int, int], num_classes: int, in_channels: int) -> None:
        super().__init__()
        for i, (count, width) in enumerate(zip(convs, _WIDTHS, strict=True)):
            inputs = in_channels if i == 0 else _WIDTHS[i - 1]
            setattr(self, f"block{i}", _block(inputs, width, count))
            setattr(self, f"relu{i}", nn.ReLU())
        self.classifier = nn.Linear(_WIDTHS[-1], num_classes)
        init_fan_out(self)
        nn.init.normal_(self.classifier.weight, 0.0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W).

        Raises:
            InputError: for images smaller than 8x8, which three poolings would reduce to nothing.
        """
        _check_size(x)
        for i in range(5):
            x = getattr(self, f"relu{i}")(getattr(self, f"block{i}")(x))
            if i < 3:
                x = F.max_pool2d(x, 2)
            if i == 3:
                x = _pool_large(x)
        logits: Tensor = self.classifier(pool(x))
        return logits


# What depends on the size of the images is whole to torch.fx, so that the rest can be traced.
@fx.wrap
def _check_size(images: Tensor) -> None:
    if min(images.shape[-2:]) < 8:
        height, width = images.shape[-2:]
        raise InputError(f"images of {height}x{width} pixels are too small for VGG; expected at least 8x8")


@fx.wrap
def _pool_large(maps: Tensor) -> Tensor:
    """Pool the maps of images of at least 64 pixels, which are an eighth of them."""
    return F.max_pool2d(maps, 2) if min(maps.shape[-2:]) >= 8 else maps


def _block(inputs: int, outputs: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(count):
        layers += [nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    # The last ReLU has a name of its own, so that a hook finds the activated output of the block.
    return nn.Sequential(*layers[:-1])


_CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
for _depth, _counts in _CONVOLUTIONS.items():
    register_model(f"vgg{_depth}", aliases=[f"vgg{_depth}_bn"], min_size=8)(partial(VGG, _counts))
