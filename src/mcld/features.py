"""What a method reads from a network besides logits: pooled features, maps of stages, the classifier."""

import functools
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mcld.errors import InputError
from mcld.images import image_sides
from mcld.methods import Outputs
from mcld.methods._base import LOGITS, Shapes
from mcld.models import Network
from mcld.models._head import find_head, named_module
from mcld.models._preactivation import Tap, before_activation
from mcld.models.network import unwrap
from mcld.outputs import split_output
from mcld.stages import find_stages, to_map


class Features:
    """Runs a network and returns what a method needs of it, by hooks on its modules that are found once.

    Where the stages are is found (:func:`mcld.stages.find_stages`), or said by ``maps``. Tokens (B, N, c) of a
    transformer become maps without the class token. The classifier is the last Linear, and the pooled features are its
    input; ``classifier`` and ``pooled`` name other modules. A method that needs logits alone costs nothing: there is no
    hook then.

    Args:
        network: from images to logits, in any form that :func:`mcld.outputs.split_output` reads.
        needs: any of ``logits``, ``pooled``, ``maps``, ``classifier``.
        maps: names of the modules whose outputs are the maps, from early to late; None for the network's stages.
        preactivation: whether the maps of the network's own stages are those before their last activation, where that
            is known (:func:`mcld.models._preactivation.before_activation`).
        pooled: name of the module whose output is the pooled features; None for the classifier's input.
        classifier: name of the last Linear; None for the one that is found.
        image_size: (height, width) of the images, or a number; None for those the network was made for.
        images: what takes images to the network; None where they are as it wants them.
        role: what to call the network in messages.
        separate_views: whether two views go through the network one after the other, not as one batch; in training they
            are then normalised apart (:attr:`mcld.methods.Method.separate_views`).
        spelling: how the arguments that name modules are written where the network comes from, for messages.

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
        pooled: str | None = None,
        classifier: str | None = None,
        image_size: int | Sequence[int] | None = None,
        images: nn.Module | None = None,
        role: str = "network",
        separate_views: bool = False,
        spelling: str = "{role}.{what}",
    ) -> None:
        self.network, self.needs, self.role = network, frozenset(needs), role
        self.images, self.separate_views, self._spelling = images, separate_views, spelling
        self._found: dict[str, Any] = {}
        self._recording = False
        self._maps: list[str] = []
        self._pooled: str | None = None
        self._head: nn.Linear | None = None
        self._model = unwrap(network)
        spec = network.spec if isinstance(network, Network) else None
        self._name = f"{role} {spec.architecture if spec else type(self._model).__name__}"
        size = image_size or (spec.image_size if spec else None)
        self._size = image_sides(size, "image_size") if size else None
        if self.needs <= LOGITS:
            return
        where = functools.partial(spelling.format, role=role)
        if self.needs & {"pooled", "classifier"}:
            if pooled is not None and "pooled" in self.needs:
                module = named_module(self._model, pooled, where(what="pooled"), self._name)
                module.register_forward_hook(functools.partial(self._keep_output, "pooled"))
                self._pooled = pooled
            if self._pooled is None or "classifier" in self.needs or classifier is not None:
                self._head = find_head(self._model, self._name, classifier, argument=where(what="classifier"))[1]
                self._head.register_forward_pre_hook(self._keep_input)
        if "maps" in self.needs:
            if maps is not None and (isinstance(maps, str) or not maps):
                raise InputError(
                    f"{where(what='maps')} is {maps!r}; expected a list of module names, from early to late"
                )
            for name in maps or ():
                named_module(self._model, name, where(what="maps"), self._name)
            self._maps = (
                list(maps) if maps else find_stages(self._model, self.run_blank, where(what="maps"), self._name)
            )
            taps = [Tap(name, before=False) for name in self._maps]
            if preactivation and not maps:
                taps = before_activation(self._model, self._maps)
            for name, tap in zip(self._maps, taps, strict=True):
                module, key = self._model.get_submodule(tap.path), f"map {name}"
                if tap.before:
                    module.register_forward_pre_hook(functools.partial(self._keep_map_before, key))
                else:
                    module.register_forward_hook(functools.partial(self._keep_output, key))

    def __call__(self, images: Tensor, network: nn.Module | None = None) -> Outputs:
        """The outputs for images (B, channels, H, W), or for two views of each (B, 2, channels, H, W).

        Two views go through the network as one batch, unless ``separate_views``; the outputs of the second are
        ``other``.

        Args:
            images: of one batch.
            network: what to run in place of the network itself: the same, wrapped.
        """
        return self.read(images, network)[0]

    def read(self, images: Tensor, network: nn.Module | None = None) -> tuple[Outputs, tuple[Tensor, ...]]:
        """As a call, with the logits of auxiliary classifiers for the first view, if the network has such."""
        if images.ndim == 5 and self.separate_views:
            (first, auxiliary), (second, _) = (self._outputs(images[:, view], network) for view in (0, 1))
            return first._replace(other=second), auxiliary
        if images.ndim == 5:
            outputs, auxiliary = self._outputs(images.transpose(0, 1).flatten(0, 1), network)
            return _halves(outputs), tuple(logits[: len(logits) // 2] for logits in auxiliary)
        return self._outputs(images, network)

    def shapes(self) -> Shapes:
        """The sizes of the outputs, from one run on a blank image.

        Raises:
            InputError: when the network cannot be run so, or its classifier is not what makes the logits.
        """
        if self.needs <= LOGITS:
            return Shapes(self.network.spec.num_classes if isinstance(self.network, Network) else 0)
        outputs = self.run_blank()
        classes = outputs.logits.shape[1]
        if self._head is not None and self._head.out_features != classes:
            linears = {n: m for n, m in self._model.named_modules() if isinstance(m, nn.Linear)}
            chosen = next(n for n, m in linears.items() if m is self._head)
            right = ", ".join(n for n, m in linears.items() if m.out_features == classes) or "none has as many"
            raise InputError(
                f"{self._name}: the Linear {chosen!r} has {self._head.out_features} outputs and there are {classes} "
                f"classes; expected its classifier: {self._spelling.format(role=self.role, what='classifier')}=..., of "
                f"those with {classes} outputs: {right}"
            )
        if "pooled" in self.needs and (outputs.pooled is None or outputs.pooled.ndim != 2):
            given = "absent" if outputs.pooled is None else f"of shape {tuple(outputs.pooled.shape)}"
            raise InputError(
                f"{self._name}: its pooled features are {given}; expected (B, D): "
                f"{self._spelling.format(role=self.role, what='pooled')}=... names the module that gives them"
            )
        pooled = 0 if outputs.pooled is None else outputs.pooled.shape[1]
        return Shapes(classes, pooled, tuple((m.shape[1], m.shape[2], m.shape[3]) for m in outputs.maps))

    def _outputs(self, images: Tensor, network: nn.Module | None) -> tuple[Outputs, tuple[Tensor, ...]]:
        network = self.network if network is None else network
        if self.images is not None:
            images = self.images(images)
        if self.needs <= LOGITS:
            logits, auxiliary = split_output(network(images), self.role)
            return Outputs(logits), auxiliary
        self._recording = True
        try:
            logits, auxiliary = split_output(network(images), self.role)
        finally:
            self._recording = False
        found = dict(self._found)
        self._found.clear()  # no tensor is kept alive until the next step
        pooled, classifier = None, None
        if "pooled" in self.needs:
            pooled = found.get("pooled")
            if pooled is not None and self._pooled is not None:
                pooled = pooled.flatten(1)
        if self._head is not None and "classifier" in self.needs:
            classifier = (self._head.weight, self._head.bias)
        maps = tuple(to_map(self._model, found.get(f"map {name}"), name, self._name) for name in self._maps)
        return Outputs(logits, pooled, maps, classifier), auxiliary

    def _keep_input(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._recording and self._pooled is None:
            self._found["pooled"] = inputs[0]

    def _keep_output(self, key: str, _: nn.Module, __: Any, output: Any) -> None:
        if self._recording:
            self._found[key] = output

    def _keep_map_before(self, key: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._recording:  # one that works in place is about to change what it got
            self._found[key] = inputs[0].clone() if getattr(module, "inplace", False) else inputs[0]

    def run_blank(self) -> Outputs:
        """The outputs for one black image, in evaluation mode and without gradients.

        Raises:
            InputError: when the network cannot be run so.
        """
        blank = self._blank()
        try:
            with _evaluating(self.network):
                return self._outputs(blank, None)[0]
        except InputError:
            raise
        except Exception as error:  # a network may refuse images in any way
            reason = " ".join(str(error).split()) or "no reason given"
            shape = tuple(blank.shape)
            raise InputError(
                f"{self._name} does not take a blank image of shape {shape} ({type(error).__name__}: {reason[:300]}); "
                "expected the image_size that it takes"
            ) from error

    def _blank(self) -> Tensor:
        """A black image, on the network's device."""
        if self._size is None:
            raise InputError(
                f"{self._name} does not know its image size; expected image_size=... (height, width), to look at its "
                "features"
            )
        if isinstance(self.network, Network):
            return torch.zeros(1, self.network.spec.in_channels, *self._size, device=self.network.mean.device)
        first = next((m for m in self._model.modules() if isinstance(m, nn.Conv2d)), None)
        weights = next(iter(self._model.parameters()), None)
        channels = 3 if first is None else first.in_channels
        blank = torch.zeros(1, channels, *self._size)
        return blank if weights is None else blank.to(weights)


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
