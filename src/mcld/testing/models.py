"""What a model is held to."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mcld.features import Features
from mcld.models import ModelSpec, find_model
from mcld.models.network import Network, load_weights, save_weights

ROWS = 4


def check_model(
    name: str,
    *,
    sizes: Sequence[int] = (),
    classes: Sequence[int] = (2, 7),
    channels: Sequence[int] = (1, 3),
    features: bool = True,
    exported: bool = True,
    **options: Any,
) -> None:
    """Check a model of the registry.

    It is built for every number of classes and channels, and answers images of every size with finite logits, also in
    bfloat16 and float64; all its parameters get a finite gradient; in evaluation it answers the same images alike,
    alone and in a batch; its weights go through a state dict and a safetensors file; methods on features find what they
    read; ``torch.export`` takes it.

    Args:
        name: as in :func:`mcld.create_model`.
        sizes: sides of the images in pixels; by default 32, or what the model says is its smallest, if that is more.
        classes: numbers of classes.
        channels: numbers of channels.
        features: whether it has stages and a last Linear to be found.
        exported: whether to export it, which takes seconds.
        **options: of the model.

    Raises:
        AssertionError: for the first rule that it breaks.
        InputError: when there is no such model or option.
    """
    smallest = 1 if "/" in name else find_model(name).min_size
    sizes = sizes or (max(32, smallest),)
    for count in classes:
        for depth in channels:
            network = _build(name, count, depth, sizes[0], options)
            for side in sizes:
                logits = network(_images(depth, side))
                given = f"{depth} channels, {side} pixels, {count} classes"
                shape = tuple(logits.shape)
                assert shape == (ROWS, count), f"{given}: its logits have shape {shape}; expected {(ROWS, count)}"
                assert bool(logits.isfinite().all()), f"{given}: its logits are not finite"
    images = _images(depth, sizes[0])
    _check_training(_build(name, count, depth, sizes[0], options), images, count)
    _check_evaluation(network, images)
    other = _build(name, count, depth, sizes[0], options, seed=1)
    expected = network(images)
    assert not torch.equal(other(images), expected), "it starts from the same weights, whatever the seed"
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(images), expected), "its state dict does not hold all that it answers by"
    other = _build(name, count, depth, sizes[0], options, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        save_weights(network, Path(folder) / "model.safetensors")
        load_weights(other.model, Path(folder) / "model.safetensors")
    assert torch.equal(other(images), expected), "a safetensors file does not hold all that it answers by"
    for dtype in (torch.bfloat16, torch.float64):
        logits = _build(name, count, depth, sizes[0], options).to(dtype)(images)
        assert logits.dtype is dtype, f"in {dtype} its logits are {logits.dtype}"
        assert bool(logits.isfinite().all()), f"in {dtype} its logits are not finite"
    if features:
        shapes = Features(network, {"logits", "pooled", "maps", "classifier"}).shapes()
        assert shapes.classes == count, f"its classifier has {shapes.classes} outputs; expected {count}"
        assert shapes.maps, "it has no stages"
    if exported:
        program = torch.export.export(network, (images,))
        torch.testing.assert_close(program.module()(images), expected, msg=lambda text: f"exported: {text}")


def _build(name: str, classes: int, channels: int, side: int, options: dict[str, Any], seed: int = 0) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        half = [0.5] * channels
        spec = ModelSpec(name, classes, channels, half, half, image_size=[side, side], options=options)
        return spec.build().eval()


def _images(channels: int, side: int) -> Tensor:
    return torch.rand(ROWS, channels, side, side, generator=torch.Generator().manual_seed(0))


def _check_training(network: Network, images: Tensor, classes: int) -> None:
    logits = network.train().model(network.normalize(images))
    if isinstance(logits, Tensor):  # others give auxiliary outputs besides
        torch.autograd.backward(nn.functional.cross_entropy(logits, torch.arange(ROWS) % classes))
        for key, parameter in network.model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, f"no gradient reaches its parameter {key}"
                assert bool(parameter.grad.isfinite().all()), f"the gradient of its parameter {key} is not finite"


def _check_evaluation(network: Network, images: Tensor) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        first, again, alone = network(images), network(images), network(images[:1])
    assert torch.equal(first, again), "in evaluation it answers the same images in two ways"
    assert torch.allclose(first[:1], alone, rtol=1e-3, atol=1e-4), "in evaluation an answer depends on the other images"
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), f"evaluating it changes its {key}"
