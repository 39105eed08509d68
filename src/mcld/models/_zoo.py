"""What the families of the zoo share."""

from torch import Tensor, nn
from torch.nn import functional as F


class ZooModel(nn.Module):
    """A classifier of the zoo: ``forward(x)`` maps images (B, in_channels, H, W) to logits (B, num_classes).

    Its attributes name, by module path (as in ``get_submodule``), where its features are. A hook on these modules is
    all that a feature method needs, so ``forward`` returns logits and nothing else.

    Attributes:
        stages: the modules whose outputs are the feature maps (B, c, h, w) of the stages, from early to late.
        preactivations: the modules whose outputs are what the activation after each stage gets, where that is no input
            of an activation within the stage.
        head: the final Linear; its input is the pooled feature (B, d).
    """

    stages: tuple[str, ...]
    preactivations: tuple[str, ...] = ()
    head: str


def pool(maps: Tensor) -> Tensor:
    """Average (B, c, h, w) over space, at any size, to (B, c)."""
    return F.adaptive_avg_pool2d(maps, 1).flatten(1)


def init_fan_out(model: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / (k·k·out)) (He et al. 2015, arXiv 1502.01852, equation 14), with zero biases."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def shuffle(maps: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups: (B, groups·c, h, w) to the same shape (ShuffleNet, arXiv 1707.01083)."""
    batch, channels, height, width = maps.shape
    grouped = maps.reshape(batch, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(batch, channels, height, width)


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias (padded to keep the size at stride 1), BatchNorm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
