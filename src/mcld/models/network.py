"""A network that knows what images it takes: architecture, classes and normalisation, as JSON and as a module."""

import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import safetensors.torch
import torch
from torch import Tensor, nn

from mcld.errors import InputError
from mcld.files import atomic_write_bytes
from mcld.models._digest import KEY, Digests, spec_digest, state_digest
from mcld.models._fitting import fill, fits, mismatch
from mcld.models._head import find_head, replace_head
from mcld.models._reading import read_safetensors
from mcld.models._registry import check_decided, create_model
from mcld.outputs import split_output

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass
class ModelSpec:
    """All that is needed to rebuild a network, apart from its weights.

    Attributes:
        architecture: a name for :func:`mcld.create_model`.
        num_classes: number of logits.
        in_channels: channels of the images.
        mean: per channel, of images scaled to [0, 1].
        std: per channel, of images scaled to [0, 1], positive.
        classes: the names of the classes in the order of the logits, or empty when nobody knows them.
        image_size: [height, width] of the images it was trained on, or empty.
        options: the options of the architecture; JSON values.
        reused: 0, or the width of the features that a projector makes for another network's last layer, which stands in
            the place of the architecture's own (:func:`reuse_classifier`).
        preprocessing: how images of any size become those that it takes, as :class:`mcld.data.Preprocessing` says it;
            JSON values, or empty when nobody knows.
        temperature: by which the logits are divided before softmax so that the probabilities can be trusted, or None
            when it was not fitted. Neither training nor accuracy use it, and it is no part of the digest of weights.
    """

    architecture: str
    num_classes: int
    in_channels: int
    mean: list[float]
    std: list[float]
    classes: list[str] = field(default_factory=list)
    image_size: list[int] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    reused: int = 0
    preprocessing: dict[str, Any] = field(default_factory=dict)
    temperature: float | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std", "classes", "image_size"):
            if isinstance(value := getattr(self, name), tuple):
                setattr(self, name, list(value))
        _check("architecture", self.architecture, _is_text, "a model name")
        _check("num_classes", self.num_classes, _is_count, "an integer of at least 1")
        _check("in_channels", self.in_channels, _is_count, "an integer of at least 1")
        for name, values in (("mean", self.mean), ("std", self.std)):
            one_each = f"a list of {self.in_channels} finite numbers, one for each channel"
            _check(name, values, lambda v: _is_list(v, _is_number) and len(v) == self.in_channels, one_each)
        _check("std", self.std, lambda v: min(v) > 0, "positive numbers")
        one_each = f"a list of {self.num_classes} names, one for each class, or an empty one"
        _check("classes", self.classes, lambda v: _is_list(v, _is_text) and len(v) in (0, self.num_classes), one_each)
        pair = "[height, width] in pixels, or an empty list"
        _check("image_size", self.image_size, lambda v: _is_list(v, _is_count) and len(v) in (0, 2), pair)
        _check("options", self.options, _is_json_object, "a dictionary of JSON values")
        check_decided(self.architecture, self.options)
        _check("preprocessing", self.preprocessing, _is_json_object, "a dictionary of JSON values")
        above = "a number above 0, or null"
        _check("temperature", self.temperature, lambda v: v is None or (_is_number(v) and v > 0), above)
        _check("reused", self.reused, lambda v: v == 0 or _is_count(v), "an integer of at least 0")

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON values, from which :meth:`from_dict` makes an equal spec."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelSpec":
        """Make a spec from what :meth:`to_dict` returned.

        Raises:
            InputError: naming the field that is missing, unknown or wrong.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"a model spec is {values!r}; expected a dictionary")
        known = {f.name: f for f in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise InputError(f"model spec has an unknown field {name!r}; expected {', '.join(known)}")
        for name, f in known.items():
            if f.default_factory is dataclasses.MISSING and f.default is dataclasses.MISSING and name not in values:
                raise InputError(f"model spec lacks the field {name!r}")
        return cls(**values)

    def build(self, *, pretrained: bool = True) -> "Network":
        """Make the network, with fresh weights unless the options say otherwise.

        Args:
            pretrained: False ignores a ``pretrained`` option, for when saved weights are loaded next.
        """
        options = {k: v for k, v in self.options.items() if pretrained or k != "pretrained"}
        model = create_model(self.architecture, self.num_classes, self.in_channels, **options)
        if self.reused:
            replace_head(model, self.architecture, self.reused, self.num_classes)
        return Network(model, self)


class Network(nn.Module):
    """A model that normalises its images itself.

    Attributes:
        model: the architecture; its state dict is the pure weights.
        spec: what it is.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.model = model
        self.spec = spec
        # Part of the spec, not of the weights.
        self.register_buffer("mean", torch.tensor(spec.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(-1, 1, 1), persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """Map images, as :meth:`forward` takes them, to what the architecture takes.

        Raises:
            InputError: when the images have another number of channels or are no batch.
        """
        if images.ndim != 4 or images.shape[1] != self.spec.in_channels:
            raise InputError(
                f"images have shape {tuple(images.shape)}; {self.spec.architecture} expects "
                f"(B, {self.spec.in_channels}, height, width)"
            )
        if images.dtype == torch.uint8:  # in place: on a CPU new memory costs more than the numbers
            return images.to(self.mean.dtype).div_(255).sub_(self.mean).div_(self.std)
        if images.is_floating_point():
            return (images.to(self.mean.dtype) - self.mean) / self.std
        raise InputError(f"images are {images.dtype}; expected uint8, or floating point from 0 to 1")

    def forward(self, images: Tensor) -> Any:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W), uint8, or floating point from 0 to 1.

        In training it is whatever the architecture gives, auxiliary outputs included: see :mod:`mcld.outputs`.
        """
        output = self.model(self.normalize(images))
        return output if self.training else split_output(output, self.spec.architecture)[0]

    def digest(self) -> str:
        """A hex digest of the weights: changes when any does."""
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def reuse_classifier(
    student: ModuleT,
    teacher: nn.Module,
    student_head: str | None = None,
    teacher_head: str | None = None,
    *,
    spelling: str = "{role}_{what}",
) -> ModuleT:
    """The student with a new projector and a frozen copy of the teacher's last layer in place of its own last layer.

    Args:
        student: is changed; of a :class:`Network` that ends so already, the copy alone is made anew.
        teacher: stays as it is.
        student_head: module path of the student's last Linear; None to find it.
        teacher_head: module path of the teacher's.
        spelling: how these two are written where they come from, for messages.

    Returns:
        The student; for a :class:`Network` another one of the same model, whose spec says ``reused``.

    Raises:
        InputError: when one of them does not end with a Linear, or the student ends so already, for another width.
    """
    inner, spec = unwrap(student), student.spec if isinstance(student, Network) else None
    name = f"student {spec.architecture if spec else type(inner).__name__}"
    taught = f"teacher {teacher.spec.architecture if isinstance(teacher, Network) else type(unwrap(teacher)).__name__}"
    _, own = find_head(
        unwrap(teacher), taught, teacher_head, argument=spelling.format(role="teacher", what="classifier")
    )
    if spec is None or not spec.reused:
        last = replace_head(
            inner,
            name,
            own.in_features,
            own.out_features,
            student_head,
            spelling.format(role="student", what="classifier"),
        )
    else:
        last = find_head(inner, name)[1]
        if last.in_features != own.in_features:
            raise InputError(
                f"{name} ends with a layer for {last.in_features} features of another teacher; expected "
                f"{own.in_features}, as of {taught.removeprefix('teacher ')}"
            )
    with torch.no_grad():
        last.weight.copy_(own.weight)
        last.bias.zero_() if own.bias is None else last.bias.copy_(own.bias)
    last.requires_grad_(False)
    if spec is None:
        return student
    return cast(ModuleT, Network(inner, dataclasses.replace(spec, reused=own.in_features)))


def unwrap(model: nn.Module) -> nn.Module:
    """Return the architecture inside a :class:`Network`, ``torch.compile`` or data parallelism."""
    while True:
        if isinstance(model, Network):
            model = model.model
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def save_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the state dict of the architecture as safetensors, whole or not at all; see :func:`save_state`.

    The keys are the architecture's own, without any prefix, so that they load anywhere.

    Raises:
        InputError: when the file cannot be written.
    """
    save_state(unwrap(model).state_dict(), path, model.spec if isinstance(model, Network) else None)


def save_state(state: Mapping[str, Tensor], path: str | os.PathLike[str], spec: ModelSpec | None = None) -> None:
    """Write a state dict as safetensors, whole or not at all, with a digest that every reading checks.

    Args:
        state: the weights.
        path: of the file.
        spec: what they are of, whose digest is then kept, too.

    Raises:
        InputError: when the file cannot be written.
    """
    # Clones, because safetensors refuses tensors that share memory.
    copies = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    kept = "" if spec is None else spec_digest(spec.to_dict())
    metadata = {KEY: " ".join(Digests(state_digest(copies, kept), kept)).strip()}
    atomic_write_bytes(path, safetensors.torch.save(copies, metadata=metadata))


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load what :func:`save_weights` wrote; the model is untouched when that fails.

    Raises:
        InputError: when the file is absent, cut short, damaged, or does not fit the model.
    """
    state, inner = read_safetensors(path), unwrap(model)
    if not fits(inner, state):
        raise mismatch(inner, state, str(path))
    fill(inner, state)


def _check(name: str, value: Any, right: Any, expected: str) -> None:
    if not right(value):
        raise InputError(f"model spec: {name} is {value!r}; expected {expected}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_list(value: Any, of: Any) -> bool:
    return isinstance(value, list) and all(of(v) for v in value)


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_json(v) for v in value)
    return value is None or isinstance(value, str | bool) or _is_number(value) or _is_json_object(value)


def _is_json_object(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and _is_json(v) for k, v in value.items())
