"""What may be said of a network."""

from dataclasses import dataclass, field
from typing import Any

from mcld.options import MISSING


@dataclass(frozen=True)
class NetworkSettings:
    """A network: ``model=resnet20`` is short for ``model.name=resnet20``.

    Attributes:
        name: a run directory, a name from ``mcld models``, ``timm/NAME`` or ``torchvision/NAME``.
        checkpoint: a file with weights for it.
        weights: which weights of a run directory: ``last`` or ``best``.
        pretrained: take the weights that timm or torchvision publish (downloads them).
        mean: normalisation, per channel, for images scaled to 0..1; by default what the weights were trained with where
            that is known, else the data's own.
        std: see ``mean``.
        maps: modules whose outputs a method takes as feature maps, from early to late; by default the stages.
        pooled: module whose output a method takes as pooled features; by default the classifier's input.
        classifier: the linear layer that gives the logits; by default the last one.
        options: further arguments of the architecture.
    """

    name: str = MISSING
    checkpoint: str | None = None
    weights: str = "last"
    pretrained: bool = False
    mean: list[float] | None = None
    std: list[float] | None = None
    maps: list[str] | None = None
    pooled: str | None = None
    classifier: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
