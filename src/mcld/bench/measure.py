"""A finished run on the test data."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mcld.assembly.choices import teacher_channels_last
from mcld.assembly.networks import build_network, load_run
from mcld.assembly.stores import Place, with_store
from mcld.configs.schema import Distill
from mcld.data import DataInfo, Split
from mcld.display import Display
from mcld.errors import InputError
from mcld.evaluation.calibration import calibration_error
from mcld.evaluation.logits import network_logits
from mcld.evaluation.relations import correlation_difference
from mcld.features import Features
from mcld.models.network import Network
from mcld.runs.results import WEIGHTS, pack_bits, pack_numbers
from mcld.teacher import Header, LiveTeacher, plain_logits

SHOWN_CLASSES, SHOWN_IMAGES = 10, 50
"""Of the picture of features: the first classes, and of each the first images."""


def measure(settings: Distill, data: DataInfo, split: Split, cache: Path) -> dict[str, Any]:
    """What a finished run is worth on images that were used neither to train nor to choose.

    Args:
        settings: of the run.
        data: that the split belongs to.
        split: the test images.
        cache: folder where the teacher's logits for them are kept.

    Returns:
        ``images``, ``fingerprint``; for ``last`` and ``best`` weights ``top1``, ``nll`` (mean cross-entropy in nats),
        ``ece`` (:func:`mcld.evaluation.calibration.calibration_error`), ``agreement`` (share of images on which student
        and teacher name the same class) and ``correct`` (bits); for the ``teacher`` the same without the last two;
        ``correlation_difference`` and ``features``, of the last weights, for pictures.
    """
    assert settings.run is not None
    labels = split.labels.cpu()
    reference = _teacher_logits(settings, data, split, cache)
    found: dict[str, Any] = {
        "images": len(split),
        "fingerprint": split.fingerprint(),
        "classes": list(data.classes),
        "teacher": _numbers(reference, labels),
    }
    for weights in WEIGHTS:
        network = load_run(settings.run, weights)
        logits = network_logits(network, split)
        predicted = logits.argmax(dim=1)
        found[weights] = {
            **_numbers(logits, labels),
            "agreement": float((predicted == reference.argmax(dim=1)).double().mean()),
            "correct": pack_bits((predicted == labels).numpy()),
        }
        if weights == "last":
            found["correlation_difference"] = pack_numbers(correlation_difference(logits, reference).numpy())
            found["features"] = _picture(network, split)
    return found


def embed(features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """t-SNE: rows of features as points (n, 2), from the principal components and with seed 0."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    points = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(features)
    return np.asarray(points, dtype=np.float64)


def _numbers(logits: Tensor, labels: Tensor) -> dict[str, float]:
    return {
        "top1": float((logits.argmax(dim=1) == labels).double().mean()),
        "nll": float(F.cross_entropy(logits.double(), labels)),
        "ece": calibration_error(logits, labels),
    }


def _teacher_logits(settings: Distill, data: DataInfo, split: Split, cache: Path) -> Tensor:
    """The teacher's logits (N, C) for the plain views, from a store of their own where they are there and whole."""
    device = _device()
    teacher = build_network(settings.teacher, data, "teacher", []).to(device)
    header = Header.of(teacher, data.name, "test", split, storage="fp32", precision="32")
    live = LiveTeacher(teacher, channels_last=teacher_channels_last(settings))
    source = with_store(live, Place(cache / header.key(), header, required=False), Display())
    return plain_logits(source, split, device)[1].cpu()


def _picture(network: Network, split: Split) -> dict[str, Any] | None:
    """None for a network whose features cannot be found."""
    labels = split.labels.cpu()
    classes = sorted(set(labels.tolist()))[:SHOWN_CLASSES]
    index = torch.cat([(labels == label).nonzero().flatten()[:SHOWN_IMAGES] for label in classes])
    try:
        reader = Features(network, {"pooled"})
    except InputError:
        return None
    device = _device()
    with torch.no_grad():
        pooled = reader(split.images(index, torch.full_like(index, split.views.center)).to(device)).pooled
    assert pooled is not None
    return {"points": pack_numbers(embed(pooled.flatten(1).float().cpu().numpy())), "labels": labels[index].tolist()}


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
