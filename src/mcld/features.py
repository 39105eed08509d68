"""What a method reads from a network besides logits: pooled features, maps of stages, the classifier."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from mcld.errors import InputError, did_you_mean
from mcld.methods import Outputs
from mcld.methods._base import LOGITS, Shapes
from mcld.models import Network, ZooModel
from mcld.models._head import find_head
from mcld.models._preactivation import Tap, before_activation
from mcld.models.network import unwrap

_STAGES = 4  # of a network whose blocks all have one resolution, such as a ViT


class Features:
    """Runs a network and returns what a method needs of it, by hooks on its modules that are found once.

    Where the stages are is known for the zoo, for timm (its ``feature_info``) and for torchvision (``layer1`` to
    ``layer4``, the children of ``features``, of ``encoder.layers`` or of the network itself; of several with the same
    resolution the last, and four evenly spaced ones where there is one resolution only). ``maps`` names other modules.
    Tokens (B, N, c) of a transformer become maps without the class token. The classifier is the last Linear, and
    ``pooled`` is its input. A method that needs logits alone costs nothing: there is no hook then.

    Args:
        network: from images to logits; a :class:`mcld.models.Network` when more than logits are needed.
        needs: any of ``logits``, ``pooled``, ``maps``, ``classifier``.
        maps: names of the modules whose outputs are the maps, from early to late; None for the network's stages.
        preactivation: whether the maps of the network's own stages are those before their last activation, where that
            is known (:func:`mcld.models._preactivation.before_activation`).
        image_size: (height, width) of the images; None for those the network was made for.
        role: what to call the network in messages.
        separate_views: whether two views go through the network one after the other, not as one batch; in training they
            are then normalised apart (:attr:`mcld.methods.Method.separate_views`).

    Raises:
        InputError: when the network does not have what is needed, or there is no module of that name.

    Example:
        >>> import torch
        >>> from mcld.features import Features
        >>> from mcld.models import ModelSpec
        >>> network = ModelSpec("resnet8", 10, 3, mean=[0.5] * 3, std=[0.5] * 3, image_size=[32, 32]).build()
        >>> features = Features(network, {"logits", "pooled", "maps"})
        >>> features.shapes()
        Shapes(classes=10, pooled=64, maps=((16, 32, 32), (32, 16, 16), (64, 8, 8)))
        >>> outputs = features(torch.zeros(2, 3, 32, 32))
        >>> outputs.logits.shape, outputs.pooled.shape, len(outputs.maps)
        (torch.Size([2, 10]), torch.Size([2, 64]), 3)
    """

    def __init__(
        self,
        network: nn.Module,
        needs: Collection[str] = LOGITS,
        *,
        maps: Sequence[str] | None = None,
        preactivation: bool = False,
        image_size: Sequence[int] | None = None,
        role: str = "network",
        separate_views: bool = False,
    ) -> None:
        self.network, self.needs, self.role = network, frozenset(needs), role
        self.separate_views = separate_views
        self._found: dict[str, Any] = {}
        self._recording = False
        self._maps: list[str] = []
        self._head: nn.Linear | None = None
        if self.needs <= LOGITS:
            return
        assert isinstance(network, Network)
        self._model = unwrap(network)
        self._size = tuple(image_size or network.spec.image_size)
        self._name = f"{role} {network.spec.architecture}"
        if self.needs & {"pooled", "classifier"}:
            _, self._head = find_head(self._model, self._name)
            self._head.register_forward_pre_hook(self._keep_input)
        if "maps" in self.needs:
            self._maps = self._find_maps(maps)
            taps = [Tap(name, before=False) for name in self._maps]
            if preactivation and not maps:
                taps = before_activation(self._model, self._maps)
            for name, tap in zip(self._maps, taps, strict=True):
                module = self._model.get_submodule(tap.path)
                if tap.before:
                    module.register_forward_pre_hook(self._keep_map_before(name))
                else:
                    module.register_forward_hook(self._keep_output(name))

    def __call__(self, images: Tensor) -> Outputs:
        """The outputs for images (B, channels, H, W), or for two views of each (B, 2, channels, H, W).

        Two views go through the network as one batch, unless ``separate_views``; the outputs of the second are
        ``other``.
        """
        if images.ndim == 5 and self.separate_views:
            return self._outputs(images[:, 0])._replace(other=self._outputs(images[:, 1]))
        if images.ndim == 5:
            return _halves(self._outputs(images.transpose(0, 1).flatten(0, 1)))
        return self._outputs(images)

    def shapes(self) -> Shapes:
        """The sizes of the outputs, from one run on a blank image."""
        assert isinstance(self.network, Network)
        classes = self.network.spec.num_classes
        if self.needs <= LOGITS:
            return Shapes(classes)
        with _evaluating(self.network):
            outputs = self._outputs(self._blank())
        pooled = 0 if self._head is None else self._head.in_features
        return Shapes(classes, pooled, tuple((m.shape[1], m.shape[2], m.shape[3]) for m in outputs.maps))

    def _outputs(self, images: Tensor) -> Outputs:
        if self.needs <= LOGITS:
            return Outputs(self.network(images))
        self._recording = True
        try:
            logits: Tensor = self.network(images)
        finally:
            self._recording = False
        found = dict(self._found)
        self._found.clear()  # no tensor is kept alive until the next step
        pooled, classifier = None, None
        if self._head is not None:
            if "pooled" in self.needs:
                pooled = found["pooled"]
            if "classifier" in self.needs:
                classifier = (self._head.weight, self._head.bias)
        return Outputs(logits, pooled, tuple(self._to_map(name, found.get(name)) for name in self._maps), classifier)

    def _keep_input(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._recording:
            self._found["pooled"] = inputs[0]

    def _keep_output(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            if self._recording:
                self._found[name] = output

        return keep

    def _keep_map_before(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if self._recording:  # one that works in place is about to change what it got
                self._found[name] = inputs[0].clone() if getattr(module, "inplace", False) else inputs[0]

        return keep

    def _find_maps(self, names: Sequence[str] | None) -> list[str]:
        model = self._model
        known = [name for name, _ in model.named_modules() if name]
        for name in names or ():
            if name not in known:
                outer = [k for k in known if k.count(".") < 2]
                hint = did_you_mean(name, known, most=3)
                right = ", ".join(outer[:30]) + (", …" if len(outer) > 30 else "")
                raise InputError(f"{self.role}.maps: {self._name} has no module {name!r}; {hint}it has {right}")
        if names:
            return list(names)
        if isinstance(model, ZooModel):
            return list(model.stages)
        candidates = _candidates(model)
        if found := self._last_of_each_size(candidates):
            return found
        right = ", ".join(name for name in known if "." not in name)
        raise InputError(f"{self._name} has no stages to be found; name them: {self.role}.maps=[...], of {right}")

    def _last_of_each_size(self, names: list[str]) -> list[str]:
        shapes: dict[str, tuple[int, ...]] = {}
        handles = []
        for name in names:

            def keep(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                with suppress(InputError):  # not a map
                    shapes[name] = tuple(self._to_map(name, output).shape[2:])

            handles.append(self._model.get_submodule(name).register_forward_hook(keep))
        with _evaluating(self.network):
            self.network(self._blank())
        for handle in handles:
            handle.remove()
        names = [name for name in names if name in shapes]
        last = [name for name, after in zip(names, [*names[1:], ""], strict=True) if shapes[name] != shapes.get(after)]
        if len(last) > 1 or len(names) <= _STAGES:
            return last if len(last) > 1 else names
        return [names[(i + 1) * len(names) // _STAGES - 1] for i in range(_STAGES)]

    def _to_map(self, name: str, output: Any) -> Tensor:
        """A module's output as (B, c, h, w)."""
        if isinstance(output, Tensor) and output.ndim == 4:
            return output.permute(0, 3, 1, 2) if _channels_last(self._model) else output
        if isinstance(output, Tensor) and output.ndim == 3:
            B, N, c = output.shape
            prefix = getattr(self._model, "num_prefix_tokens", None)
            for extra in (0, 1) if prefix is None else (int(prefix),):
                side = math.isqrt(max(N - extra, 0))
                if side and side * side == N - extra:
                    return output[:, extra:].transpose(1, 2).reshape(B, c, side, side)
        given = f"gives {tuple(output.shape)}" if isinstance(output, Tensor) else f"gives {type(output).__name__}"
        raise InputError(
            f"{self._name}: module {name!r} {given if output is not None else 'is not run'}; "
            "expected maps (B, c, h, w), or tokens (B, N, c) that form a square"
        )

    def _blank(self) -> Tensor:
        assert isinstance(self.network, Network)
        if len(self._size) != 2:
            raise InputError(f"{self._name} does not know its image size; expected image_size=(height, width)")
        return torch.zeros(1, self.network.spec.in_channels, *self._size, device=self.network.mean.device)


def _candidates(model: nn.Module) -> list[str]:
    """Modules that may be stages of a network of timm or torchvision, from early to late."""
    info = getattr(model, "feature_info", None)
    if info is not None:
        names = [str(entry["module"]) for entry in info]
    elif hasattr(model, "layer1"):
        names = [f"layer{i}" for i in range(1, 5)]
    else:
        names = []
        modules = dict(model.named_modules())
        parent = next((p for p in ("features", "encoder.layers") if p in modules), "")
        names = [f"{parent}.{name}".lstrip(".") for name, _ in modules[parent].named_children()]
    known = dict(model.named_modules())
    return [name for name in names if name in known and "Pool" not in type(known[name]).__name__]


def _channels_last(model: nn.Module) -> bool:
    return getattr(model, "output_fmt", None) == "NHWC" or type(model).__name__ == "SwinTransformer"


def _halves(outputs: Outputs) -> Outputs:
    logits, pooled, maps, classifier, _ = outputs
    B = len(logits) // 2

    def part(rows: slice, other: Outputs | None) -> Outputs:
        kept = None if pooled is None else pooled[rows]
        return Outputs(logits[rows], kept, tuple(m[rows] for m in maps), classifier, other)

    return part(slice(0, B), part(slice(B, None), None))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the modes are put back."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
