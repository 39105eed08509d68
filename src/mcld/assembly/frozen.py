"""A network of which only the classifier is trained, on features that its frozen backbone gives once."""

import contextlib
import dataclasses
import hashlib
import json
from typing import Any, Self

import torch
from torch import Tensor

from mcld.assembly.parts import Parts
from mcld.data import Split, view_batches
from mcld.data.cache import cache_dir
from mcld.data.views import CropFlip
from mcld.display import Display
from mcld.errors import InputError
from mcld.models._frozen import FrozenBackbone
from mcld.models._reading import read_safetensors
from mcld.models.network import save_state

CHUNK = 1024
"""Images whose features are one file; what an interrupted run has computed is there for the next."""


class FeatureSplit:
    """The features of the plain view of each image of a split, in place of the images.

    Args:
        source: the images.
        features: (N, d) float32.
        labels: (N,) int64, on the same device.
    """

    in_memory = True
    views = CropFlip((1, 1), padding=0, flip=False)

    def __init__(self, source: Split, features: Tensor, labels: Tensor) -> None:
        self.source, self.features, self.labels = source, features, labels

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, index: Tensor, view: Tensor) -> Tensor:  # noqa: ARG002  (there is one)
        """The features (B, d, 1, 1) float32 of the images at ``index`` (B,)."""
        return self.features[index.to(self.features.device)][:, :, None, None]

    def fingerprint(self) -> str:
        """A digest of the images, of which the features follow."""
        return self.source.fingerprint()

    def to(self, device: torch.device | str) -> Self:
        """The same on the device."""
        return type(self)(self.source, self.features.to(device), self.labels.to(device))

    def with_pool(self, pool: int) -> Self:  # noqa: ARG002
        """Itself: there is one view of each image."""
        return self

    def with_second(self, policy: str) -> Self:  # noqa: ARG002
        """Itself: there is one view of each image."""
        return self


def on_features(parts: Parts, display: Display, device: torch.device) -> Parts:
    """The parts of a run for its training: of a frozen backbone the features in place of the images.

    The features are computed once and kept in the cache folder, for this run and every later one with the same backbone
    and images; a part that is damaged is computed again.

    Raises:
        InputError: when the network does something after its last layer, so that features are not enough.
    """
    network = parts.student
    if not isinstance(network, FrozenBackbone):
        return parts
    network.to(device)
    train, val = (_features(network, parts, name, display, device) for name in ("train", "val"))
    return dataclasses.replace(parts, data=dataclasses.replace(parts.data, train=train, val=val))


def _features(network: FrozenBackbone, parts: Parts, name: str, display: Display, device: torch.device) -> FeatureSplit:
    split: Split = getattr(parts.data, name)
    spec, settings = network.spec, parts.settings
    known: dict[str, Any] = {
        "architecture": spec.architecture,
        "options": {key: value for key, value in spec.options.items() if key != "pretrained"},
        "normalisation": [spec.mean, spec.std],
        "weights": network.backbone_digest(),
        "images": split.fingerprint(),
        "plain": parts.data.info.plain.to_dict(),
    }
    key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_dir() / "features" / f"{spec.architecture.replace('/', '-')}-{key}"
    found, computed = [], 0
    for start in range(0, len(split), CHUNK):
        file, size = folder / f"{start:09d}.safetensors", min(CHUNK, len(split) - start)
        chunk = None
        with contextlib.suppress(InputError):  # absent or damaged
            chunk = read_safetensors(file).get("features")
        if chunk is None or chunk.shape != (size, network.width):
            index = torch.arange(start, start + size)
            view = torch.full_like(index, split.views.center)
            batches = view_batches(split, index, view, 128, device, settings.data.workers)
            chunk = torch.cat([network.features(batch.image).cpu() for batch in batches])
            computed += size
            try:
                folder.mkdir(parents=True, exist_ok=True)
                save_state({"features": chunk}, file)
            except (OSError, InputError) as error:
                display.line(f"warning: features are not kept: {error}", style="yellow")
        found.append(chunk.to(device))
    display.line(
        f"freeze=backbone: features of {len(split):,} images ({name}), {computed:,} computed now, kept in {folder}"
    )
    return FeatureSplit(split, torch.cat(found), split.labels.to(device))
