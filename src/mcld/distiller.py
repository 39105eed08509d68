"""One step of distillation, for any loop: the student, the method and a borrowed teacher as one module."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcld.checks import check_label_range, check_options, check_row_integers
from mcld.distributed import gather_rows
from mcld.errors import InputError
from mcld.features import Features
from mcld.images import Images, ImageSpec, converter, image_spec
from mcld.methods import Method, Outputs, Terms, create_method
from mcld.methods._base import LOGITS
from mcld.models import Network
from mcld.models.network import reuse_classifier
from mcld.outputs import split_output

TeacherOutput: TypeAlias = Any
"""What may stand for the teacher in a step: logits (B, C), or (B, 2, C) for two views; :class:`mcld.Outputs`; anything
that a network returns with logits in it."""


class Distilled(NamedTuple):
    """What one step gives.

    Attributes:
        loss: a scalar, the sum of the terms.
        terms: each part of the loss by its name, weighted; cross-entropy is ``ce``.
        logits: the student's (B, C), those of the first view.
    """

    loss: Tensor
    terms: Terms
    logits: Tensor


class Distiller(nn.Module):
    """The loss of a student that learns from a teacher by a method, for any training loop.

    It holds the student and what the method learns: both are its parameters, so that one optimizer and one data
    parallel wrapper see all that is trained. The **teacher is borrowed**: it is in no ``parameters()`` and no
    ``state_dict()``, is run in evaluation mode without gradient whatever ``train()`` says, and follows ``to(device)``
    (the device, never a change of dtype). The student's own weights are ``distiller.student.state_dict()``.

    Networks are any modules from images to logits (:func:`mcld.outputs.split_output` says in which forms). A method on
    features finds the stages and the classifier by itself where it can (:func:`mcld.stages.find_stages`); else name
    them by module path. With two views of each image (MLKD, SLD) the images are (B, 2, channels, H, W), or a pair of
    batches.

    With data-parallel ranks (DistributedDataParallel or ``fully_shard`` around the distiller) a method that relates
    images sees the joined batch of all ranks, and every rank has the loss of that; ranks must bring equally many
    images. Mixed precision and ``torch.compile`` work around it as around any module.

    Args:
        student: the network that is trained. SimKD replaces its last layer.
        teacher: a trained network; None where every call gets ``teacher_logits``, or for ``plain``.
        method: a name (``mcld methods``), several of them, or a method with options (``mcld.KD(temperature=2)``).
        epochs: of the whole training, for methods that count them (DKD, CTKD, ReviewKD).
        image_size: of the images as they are given, (height, width) or a number; for methods on features.
        ce_weight: of the cross-entropy with the labels, at least 0; None for the method's own.
        label_smoothing: of that cross-entropy, at least 0 and below 1.
        aux_weight: of the cross-entropy of auxiliary classifiers that the student has in training (GoogLeNet,
            Inception), as a share of ``ce_weight``; at least 0.
        images: how the images of a batch are normalised, as an :class:`mcld.ImageSpec` or a mapping; None for uint8, or
            floating point from 0 to 1. Only asked for where the next two need it.
        student_images: what the student takes, if it differs: a function of the batch, or a spec.
        teacher_images: the same for the teacher: another normalisation, another size.
        student_maps: module paths of the student's stages, from early to late.
        student_pooled: module path of what gives its pooled features, by default the input of its classifier.
        student_classifier: module path of its last Linear.
        teacher_maps: as the student's, and so on.
        teacher_pooled: as the student's.
        teacher_classifier: as the student's.
        train_labels: (N,) of all training images, for methods that keep something for each (CRD).
        check_values: whether to look for NaN, Inf and labels out of range in every call, for which an accelerator must
            be waited for; None to look always on the CPU, and in the first step elsewhere.

    Attributes:
        student: the network that is trained.
        method: the method.
        ce_weight: the weight of cross-entropy.

    Raises:
        InputError: for what cannot be right, saying what would be.

    Example:
        >>> import torch
        >>> import mcld
        >>> _ = torch.manual_seed(0)
        >>> teacher, student = (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5)) for _ in range(2))
        >>> distiller = mcld.Distiller(student, teacher, method="mcld")
        >>> out = distiller(torch.rand(8, 3, 2, 2), torch.arange(8) % 5, progress=0.5)
        >>> out.loss.backward()
        >>> sorted(out.terms), out.logits.shape
        (['category', 'ce', 'instance', 'sample'], torch.Size([8, 5]))
        >>> sorted(distiller.student.state_dict())
        ['1.bias', '1.weight']
    """

    student: nn.Module
    method: Method
    spelling: ClassVar[str] = "{role}_{what}"
    """How the arguments that name modules are written, for messages."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        method: str | Sequence[str] | Method = "mcld",
        *,
        epochs: int | None = None,
        image_size: int | Sequence[int] | None = None,
        ce_weight: float | None = None,
        label_smoothing: float = 0.0,
        aux_weight: float = 0.3,
        images: ImageSpec | Mapping[str, Any] | None = None,
        student_images: Images | None = None,
        teacher_images: Images | None = None,
        student_maps: Sequence[str] | None = None,
        student_pooled: str | None = None,
        student_classifier: str | None = None,
        teacher_maps: Sequence[str] | None = None,
        teacher_pooled: str | None = None,
        teacher_classifier: str | None = None,
        train_labels: Tensor | Sequence[int] | None = None,
        check_values: bool | None = None,
    ) -> None:
        super().__init__()
        _check_module("student", student)
        if teacher is not None:
            _check_module("teacher", teacher)
        if isinstance(method, type):
            raise InputError(f"method is the class {method.__name__}; expected {method.__name__}(...), or its name")
        self.method = method if isinstance(method, Method) else create_method(method)
        self.ce_weight = self.method.ce_weight if ce_weight is None else ce_weight
        check_options(non_negative={"ce_weight": self.ce_weight, "aux_weight": aux_weight})
        if not isinstance(label_smoothing, int | float) or not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing is {label_smoothing!r}; expected at least 0 and below 1")
        if self.ce_weight == 0 and not self.method.needs:
            raise InputError("ce_weight is 0 and the method has no terms of its own: nothing is left to learn from")
        if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1):
            raise InputError(f"epochs is {epochs!r}; expected an integer of at least 1")
        if epochs is None and self.method.counts_epochs:
            raise InputError("the method counts epochs; expected epochs=..., how many there are in the whole training")
        self.label_smoothing, self.aux_weight, self.check_values = label_smoothing, aux_weight, check_values
        self._checked = False
        self.method.check_values = check_values is not False

        given = image_spec(images, "images")
        wanted = {"student": student_images, "teacher": teacher_images}
        for role, network in (("student", student), ("teacher", teacher)):
            if isinstance(network, Network) and wanted[role] is None and given.normalized:
                wanted[role] = ImageSpec()  # it normalises by itself
        self._student_images = converter(given, wanted["student"], "student_images")
        self._teacher_images = converter(given, wanted["teacher"], "teacher_images")
        self._unscaled = not given.normalized and any(isinstance(spec, ImageSpec | Mapping) for spec in wanted.values())

        if self.method.reuses_classifier and teacher is not None:
            heads = (student_classifier, teacher_classifier)
            student = reuse_classifier(student, teacher, *heads, spelling=self.spelling)
            student_classifier = None  # the last Linear now
        self.student = student
        self.student_features = Features(
            student,
            self.method.needs,
            maps=student_maps,
            preactivation=self.method.preactivation == "both",
            pooled=student_pooled,
            classifier=student_classifier,
            image_size=image_size,
            images=self._student_images,
            role="student",
            separate_views=self.method.separate_views,
            spelling=self.spelling,
        )
        self.teacher_features: Features | None = None
        if teacher is not None:
            teacher.eval()
            self.teacher_features = Features(
                teacher,
                self.method.needs,
                maps=teacher_maps,
                preactivation=self.method.preactivation != "none",
                pooled=teacher_pooled,
                classifier=teacher_classifier,
                image_size=image_size,
                images=self._teacher_images,
                role="teacher",
                spelling=self.spelling,
            )

        if teacher is not None or self.method.needs <= LOGITS:
            ours = self.student_features.shapes()
            theirs = ours if self.teacher_features is None else self.teacher_features.shapes()
            known = None if train_labels is None else torch.as_tensor(train_labels)
            self.method.prepare(ours, theirs, 0 if known is None else len(known), epochs or 0, known)
            if self.teacher_features is not None and not self.method.needs <= LOGITS:
                self.method.check_networks(self.student_features.run_blank(), self.teacher_features.run_blank())
        if (weights := next(student.parameters(), None)) is not None:
            self.method.to(weights.device)  # its dtype is its own: losses are computed in at least float32

    @property
    def teacher(self) -> nn.Module | None:
        """The borrowed teacher."""
        return None if self.teacher_features is None else self.teacher_features.network

    def forward(
        self,
        images: Tensor | Sequence[Tensor],
        labels: Tensor,
        *,
        progress: float | None = None,
        index: Tensor | None = None,
        teacher_logits: TeacherOutput = None,
    ) -> Distilled:
        """The loss of a batch, its terms, and the student's logits.

        Args:
            images: (B, channels, H, W); (B, 2, channels, H, W) or a pair of batches for a method with two views, of
                which cross-entropy and ``logits`` have the first.
            labels: (B,) class indices.
            progress: the share of training that is done, from 0 to 1, for methods that ramp.
            index: (B,) positions of the images in the training set, for methods that keep something for each image.
            teacher_logits: the teacher's logits for exactly these images, or whatever the teacher returned for them;
                None to run the teacher.

        Raises:
            InputError: for shapes, labels or values that cannot be right, or something missing that the method needs.
        """
        if not isinstance(images, Tensor):
            images = torch.stack(list(images), dim=1)
        if not torch.compiler.is_compiling():
            self._check(images, labels)
        outputs, auxiliary = self.student_features.read(images, self.student)
        logits = outputs.logits
        if self.method.check_values and not torch.compiler.is_compiling():
            check_label_range(labels, logits.shape[1])
        terms: Terms = {}
        if self.ce_weight > 0:
            labels = labels.to(torch.int64)
            terms["ce"] = self.ce_weight * F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
            if auxiliary and self.aux_weight > 0:
                losses = [F.cross_entropy(aux, labels, label_smoothing=self.label_smoothing) for aux in auxiliary]
                terms["ce_aux"] = self.ce_weight * self.aux_weight * torch.stack(losses).sum()
        if self.method.needs:
            teacher = self._teach(images) if teacher_logits is None else _as_outputs(teacher_logits)
            student = outputs
            if self.method.requires_global_batch:
                # Every rank computes the whole joined loss: the backward pass of the gather sums the ranks' equal
                # gradients and data parallelism divides by their number, which leaves the joined batch's gradient.
                student, teacher = gather_outputs(student), gather_outputs(teacher)
                labels, index = gather_rows(labels), None if index is None else gather_rows(index)
            terms.update(self.method(student, teacher, labels, progress, index))
        return Distilled(torch.stack(list(terms.values())).sum(), terms, logits)

    def _teach(self, images: Tensor) -> Outputs:
        if self.teacher_features is None:
            raise InputError("there is no teacher; expected teacher_logits=..., or a Distiller with a teacher")
        if self.teacher_features.network.training:  # somebody else has called train() on it
            self.teacher_features.network.eval()
        with torch.no_grad():
            return self.teacher_features(images)

    def _check(self, images: Tensor, labels: Tensor) -> None:
        """Refuse what cannot be right before anything is computed."""
        if images.ndim not in (4, 5):
            raise InputError(
                f"images have shape {tuple(images.shape)}; expected (B, channels, height, width), or (B, 2, channels, "
                "height, width) for two views"
            )
        views = images.shape[1] if images.ndim == 5 else 1
        if views != self.method.views:
            expected = "(B, 2, channels, height, width), or a pair" if self.method.views == 2 else "(B, channels, …)"
            raise InputError(
                f"images have shape {tuple(images.shape)}, {views} to each label, and {self.method.name} takes "
                f"{self.method.views}; expected {expected}"
            )
        check_row_integers("labels", labels, len(images))
        look = self.check_values
        if look is None:
            look = images.device.type == "cpu" or not self._checked
        self._checked = True
        self.method.check_values = look
        if look and self._unscaled and images.is_floating_point():
            low, high = float(images.min()), float(images.max())
            if low < 0 or high > 1:
                raise InputError(
                    f"images range from {low:.3g} to {high:.3g}; expected 0 to 1, or images=ImageSpec(mean, std), how "
                    "they are normalised"
                )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Distiller":
        """As for any module; and the teacher follows to another device, but never to another dtype."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no types here
        if self.teacher is not None and recurse:
            tensors = [*self.teacher.parameters(), *self.teacher.buffers()]
            devices = {tensor.device for tensor in tensors}
            if len(devices) == 1:  # one that is spread over several is left where it is
                (now,) = devices
                device = fn(torch.empty(0, device=now)).device
                if device != now and device.type != "meta":
                    self.teacher.to(device)
        return self


def gather_outputs(outputs: Outputs) -> Outputs:
    """The outputs of all ranks, in rank order, with gradient; see :func:`mcld.distributed.gather_rows`."""
    return Outputs(
        gather_rows(outputs.logits),
        None if outputs.pooled is None else gather_rows(outputs.pooled),
        tuple(gather_rows(maps) for maps in outputs.maps),
        outputs.classifier,  # parameters: the same on all ranks
        None if outputs.other is None else gather_outputs(outputs.other),
    )


def _as_outputs(given: TeacherOutput) -> Outputs:
    if isinstance(given, Outputs):
        return given
    if isinstance(given, Tensor) and given.ndim == 3 and given.shape[1] == 2:  # two views
        return Outputs(given[:, 0], other=Outputs(given[:, 1]))
    return Outputs(split_output(given, "teacher_logits")[0].detach())


def _check_module(name: str, given: object) -> None:
    if not isinstance(given, nn.Module):
        raise InputError(
            f"{name} is {given!r}; expected a torch.nn.Module from images to logits, such as mcld.create_model(...)"
        )
