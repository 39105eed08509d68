"""What a frozen network's features are worth on other data: a linear probe, nearest neighbours, a layer by SGD."""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mcld.data import Batch, TrainLoader
from mcld.errors import InputError
from mcld.features import Features

GRID = tuple(10.0**power for power in range(-4, 3))
"""The inverse regularisations C that the probe chooses from."""
NEIGHBOURS = 20
SGD_EPOCHS, SGD_DECAYS, SGD_LR = 120, (30, 60, 90), 0.1


class Labelled(NamedTuple):
    """Features of a split.

    Attributes:
        features: (N, d) float32.
        labels: (N,) int64.
    """

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Probe:
    """A logistic regression on features.

    Attributes:
        top1: share of validation images that it gets right.
        C: the inverse regularisation that did best on the held-out part of the training data.
        held_out: its top-1 there.
        converged: whether the last fit did.
    """

    top1: float
    C: float
    held_out: float
    converged: bool


@dataclass(frozen=True)
class Sgd:
    """A linear layer trained by SGD.

    Attributes:
        last: validation top-1 after the last epoch.
        best: the highest of all epochs, on the same images, so an optimistic number.
        best_epoch: from 1.
        epochs: how many.
    """

    last: float
    best: float
    best_epoch: int
    epochs: int


def pooled_features(features: Features, batches: Iterable[Batch]) -> Labelled:
    """The input of the classifier for every image, in evaluation mode, on the CPU.

    Args:
        features: of a network, with ``pooled`` among its needs; the network is left in evaluation mode.
        batches: every image once.
    """
    features.network.eval()
    rows, labels = [], []
    with torch.no_grad():
        for batch in batches:
            rows.append(_pooled(features, batch.image).cpu())
            labels.append(batch.label.cpu())
    return Labelled(torch.cat(rows), torch.cat(labels))


def probe(train: Labelled, val: Labelled, *, seed: int = 0) -> Probe:
    """Multinomial logistic regression on standardised features, by scikit-learn.

    C is chosen from ``GRID`` by top-1 on a stratified fifth of the training data that is held out (of equals, the
    smallest); then it is fitted again on all of it. The validation data has no part in the choice.

    Args:
        train: to learn from.
        val: to report on.
        seed: of the split.

    Raises:
        InputError: when a class has fewer than two training images.
    """
    from sklearn.model_selection import train_test_split

    features, labels = _arrays(train)
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise InputError(
            f"class {classes[counts.argmin()]} has {counts.min()} training image; the probe holds some out to choose "
            "its regularisation and expects at least 2 of each class"
        )
    held_out = max(math.ceil(0.2 * len(labels)), len(classes))
    fit, check = train_test_split(np.arange(len(labels)), test_size=held_out, stratify=labels, random_state=seed)
    scores = {}
    for C in GRID:
        model, _ = _regression(features[fit], labels[fit], C)
        scores[C] = float((model(features[check]) == labels[check]).mean())
    C = max(GRID, key=lambda C: (scores[C], -C))
    model, converged = _regression(features, labels, C)
    features, labels = _arrays(val)
    return Probe(float((model(features) == labels).mean()), C, scores[C], converged)


def nearest_neighbours(train: Labelled, val: Labelled) -> float:
    """Top-1 of a majority vote among the ``NEIGHBOURS`` training images of highest cosine similarity."""
    from sklearn.neighbors import KNeighborsClassifier

    features, labels = _arrays(train)
    model = KNeighborsClassifier(min(NEIGHBOURS, len(labels)), metric="cosine", algorithm="brute")
    model.fit(features, labels)
    features, labels = _arrays(val)
    return float((model.predict(features) == labels).mean())


def linear_sgd(
    features: Features,
    loader: TrainLoader,
    val: Labelled,
    classes: int,
    *,
    seed: int = 0,
    epochs: int = SGD_EPOCHS,
    after_epoch: Callable[[], None] = lambda: None,
) -> Sgd:
    """A linear layer on frozen features, as the field reports transfer: SGD on augmented images.

    The learning rate is ``SGD_LR``, divided by ten after each of ``SGD_DECAYS`` (for other numbers of epochs at the
    same shares); momentum 0.9, no weight decay. The network stays in evaluation mode.

    Args:
        features: of a network, with ``pooled`` among its needs.
        loader: augmented training batches.
        val: features of the validation images.
        classes: of the new data.
        seed: of the layer's first weights.
        epochs: passes over the training data.
        after_epoch: is called after each epoch.
    """
    features.network.eval()
    width = val.features.shape[1]
    device = next(features.network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(width, classes)
    with torch.no_grad():
        bound = 1 / math.sqrt(width)
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    layer.to(device)
    optimizer = torch.optim.SGD(layer.parameters(), lr=SGD_LR, momentum=0.9)
    seen, labels = val.features.to(device), val.labels.to(device)
    top1: list[float] = []
    for epoch in range(epochs):
        drops = sum(epoch * SGD_EPOCHS >= decay * epochs for decay in SGD_DECAYS)
        optimizer.param_groups[0]["lr"] = SGD_LR * 0.1**drops
        for batch in loader.epoch(epoch):
            with torch.no_grad():
                rows = _pooled(features, batch.image)
            loss = F.cross_entropy(layer(rows), batch.label)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        with torch.no_grad():
            top1.append(float((layer(seen).argmax(dim=1) == labels).double().mean()))
        after_epoch()
    return Sgd(top1[-1], max(top1), top1.index(max(top1)) + 1, epochs)


def _pooled(features: Features, images: Tensor) -> Tensor:
    pooled = features(images).pooled
    assert pooled is not None
    return pooled.float()


def _arrays(data: Labelled) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return data.features.numpy(), data.labels.numpy()


def _regression(
    features: NDArray[np.float32], labels: NDArray[np.int64], C: float
) -> tuple[Callable[[NDArray[np.float32]], NDArray[np.int64]], bool]:
    """(the fitted classifier, whether it converged)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, labels)
    return model.predict, not any(issubclass(w.category, ConvergenceWarning) for w in caught)
