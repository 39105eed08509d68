"""Contrastive representation distillation (CRD)."""

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcld.checks import check_row_integers
from mcld.errors import InputError
from mcld.methods._base import Outputs, Shapes, Terms
from mcld.methods._features import POOLED, FeatureMethod, pooled_pair
from mcld.options import Count, Positive, Rule, Temperature
from mcld.registry import register_method
from mcld.rows import no_autocast, unit_rows


def draw_negatives(index: Tensor, images: int, count: int, generator: torch.Generator) -> Tensor:
    """For each image, positions of others: (B, count) int64, uniform, with replacement, on the generator's device.

    Args:
        index: (B,) positions of the images themselves.
        images: N ≥ 2, of the training set.
        count: how many for each.
        generator: on the device of ``index``.
    """
    others = torch.randint(images - 1, (len(index), count), generator=generator, device=index.device)
    return others + (others >= index.unsqueeze(1))  # leaves out the image itself


class OtherClasses:
    """Draws images of other classes: a table of the training images by class, and one step for a whole batch.

    Args:
        labels: (N,) int64, of the training images; at least two different ones.

    Raises:
        InputError: when all labels are the same.

    Example:
        >>> import torch
        >>> from mcld.methods.crd import OtherClasses
        >>> OtherClasses(torch.tensor([0, 1, 0])).draw(torch.tensor([0, 2]), 3, torch.Generator())
        tensor([[1, 1, 1],
                [1, 1, 1]])
    """

    def __init__(self, labels: Tensor) -> None:
        counts = labels.bincount()
        if int((counts > 0).sum()) < 2:
            raise InputError(
                f"all {len(labels)} training images are of one class; crd compares an image with those of other classes"
            )
        self.order = labels.argsort(stable=True)  # positions of the images, class by class
        self.first = (counts.cumsum(0) - counts)[labels]  # of the image's class in that order
        self.size = counts[labels]  # of the image's class

    def draw(self, index: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Positions (B, count) int64 of images of other classes than those at ``index``, as :func:`draw_negatives`."""
        if self.order.device != index.device:
            self.order, self.first, self.size = (x.to(index.device) for x in (self.order, self.first, self.size))
        first, size = self.first[index].unsqueeze(1), self.size[index].unsqueeze(1)
        # The remainder of a number this large is as good as uniform.
        drawn = torch.randint(2**62, (len(index), count), generator=generator, device=index.device)
        places = drawn % (len(self.order) - size)
        return self.order[places + size * (places >= first)]  # steps over the image's class


def contrast(scores: Tensor, log_constant: Tensor) -> Tensor:
    """The mean over anchors of −log h(positive) − Σ log(1 − h(negative)), where h = e^x / (e^x + K · Z).

    Args:
        scores: (B, 1 + K), the positive's first.
        log_constant: log Z.
    """
    odds = scores - log_constant - math.log(scores.shape[1] - 1)
    return -(F.logsigmoid(odds[:, 0]) + F.logsigmoid(-odds[:, 1:]).sum(dim=1)).mean()


@register_method("crd")
class CRD(FeatureMethod):
    """Tell an image's own teacher embedding from those of other images, and the other way round (Tian et al. 2020).

    Linear maps take the pooled features of both networks to unit vectors of ``dim`` numbers. A bank for each network
    keeps every training image's vector (with momentum). The terms are ``student``, with the student's vectors as
    anchors and the teacher's bank to look in, and ``teacher``, the reverse; each is the weight times the noise
    contrastive loss −log h(own) − Σ log(1 − h(other)) over K images of other classes, averaged over the images, with h
    = e^x / (e^x + K · Z) and x the product of the vectors over the temperature (arXiv 1910.10699; we could not check
    the numbers of its equations). Z is the mean of e^x over the first batch, fixed from then on, as in the published
    code. Without labels (:meth:`prepare`) the negatives come from all other images.

    The published code draws them one image after the other on the CPU, without replacement. Here they are drawn for
    the batch at once, where the banks are, with replacement. Drawing depends on a number drawn by :meth:`prepare` and
    on the step, so it is the same on all ranks and after resuming.

    Args:
        weight: > 0.
        negatives: K ≥ 1.
        dim: of the vectors, at least 1.
        temperature: > 0.
        momentum: of the banks, in [0, 1).

    Raises:
        InputError: for an option out of range, and in use for features without ``index``.

    Example:
        >>> import torch
        >>> from mcld.methods.crd import contrast
        >>> scores = torch.tensor([[0.0, 0.0]])  # own and one other, equally near: h = 1/2
        >>> round(contrast(scores, torch.tensor(0.0)).item(), 4)  # 2 log 2
        1.3863
    """

    title = "tell an image's own teacher embedding from many others'"
    paper = "Tian, Krishnan, Isola, ICLR 2020"
    year = 2019
    keeps = True
    family = "relations"
    needs = POOLED

    weight: Positive = 0.8
    negatives: Count = 16384
    dim: Count = 128
    temperature: Temperature = 0.07
    momentum: Annotated[float, Rule(lambda x: 0 <= x < 1, "at least 0 and below 1")] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.student_map: nn.Module | None = None
        self.teacher_map: nn.Module | None = None
        # No buffers: data parallelism would broadcast the banks in every step, though all ranks hold the same rows.
        self.banks: dict[str, Tensor] = {}
        self.log_constants: dict[str, Tensor] = {}
        self.other_classes: OtherClasses | None = None
        self._news: tuple[Tensor, dict[str, Tensor]] | None = None
        self.seed = 0
        self.steps = 0

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Make the linear maps and the banks; see :meth:`Method.prepare`."""
        if images < 2:
            raise InputError(
                f"there are {images} training images; crd expects at least 2, to have another to compare "
                "(train_labels=... of the Distiller, or images=... of prepare(...), says them)"
            )
        self.student_map = nn.Linear(student.pooled, self.dim)
        self.teacher_map = nn.Linear(teacher.pooled, self.dim)
        self.banks = {role: F.normalize(torch.randn(images, self.dim), dim=1) for role in ("student", "teacher")}
        self.other_classes = None if labels is None else OtherClasses(labels)
        self.log_constants = {}
        self.seed = int(torch.randint(2**31, ()))
        self.steps = 0

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """Return ``{"student": ..., "teacher": ...}``; in training mode the banks learn of the batch afterwards."""
        self.need_preparation(self.student_map)
        assert self.student_map is not None
        assert self.teacher_map is not None
        s, t = pooled_pair(student, teacher)
        if index is None:
            raise InputError("crd keeps a vector for each training image; expected index, the positions of the images")
        check_row_integers("index", index, len(s))
        index = index.to(torch.int64)
        vectors = {
            "student": unit_rows(self.student_map(s), center=False),
            "teacher": unit_rows(self.teacher_map(t), center=False),
        }
        self._move(s.device)
        self._learn()
        generator = torch.Generator(s.device).manual_seed(self.seed + self.steps)
        if self.other_classes is None:
            negatives = draw_negatives(index, len(self.banks["student"]), self.negatives, generator)
        else:
            negatives = self.other_classes.draw(index, self.negatives, generator)
        rows = torch.cat([index.unsqueeze(1), negatives], dim=1)
        terms = {}
        with no_autocast(s):
            for role, other in (("student", "teacher"), ("teacher", "student")):
                # All products, then a choice: B · N numbers, where choosing vectors first would copy B · K · dim.
                products = vectors[role] @ self.banks[other].to(vectors[role].dtype).T / self.temperature
                scores = products.gather(1, rows)
                constant = self.log_constants.get(role)
                if constant is None:
                    constant = scores.detach().logsumexp(dim=(0, 1)) - math.log(scores.numel())
                    if self.training:
                        self.log_constants[role] = constant
                terms[role] = self.weight * contrast(scores, constant)
        if self.training:
            self._news = (index, {role: rows.detach() for role, rows in vectors.items()})
            self.steps += 1
        return terms

    @torch.no_grad()
    def _learn(self) -> None:
        """Put the last batch's vectors into the banks: only now, as its backward pass has still read the old ones."""
        if self._news is None:
            return
        index, vectors = self._news
        self._news = None
        for role, bank in self.banks.items():
            mixed = self.momentum * bank[index] + (1 - self.momentum) * vectors[role].to(bank.dtype)
            bank.index_copy_(0, index, F.normalize(mixed, dim=1))

    def _move(self, device: torch.device) -> None:
        for kept in (self.banks, self.log_constants):
            for role, value in kept.items():
                if value.device != device:
                    kept[role] = value.to(device)

    def get_extra_state(self) -> dict[str, Any]:
        """Banks, constants and the position in the sequence of draws; it loads with ``weights_only=True``."""
        self._learn()
        # Copies, as tensors of a state dict taken now must not change when training goes on.
        return {
            "banks": {role: bank.detach().cpu().clone() for role, bank in self.banks.items()},
            "log_constants": {role: value.cpu() for role, value in self.log_constants.items()},
            "seed": self.seed,
            "steps": self.steps,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`get_extra_state` returned.

        Raises:
            InputError: when it comes from banks of another size.
        """
        for role, bank in state["banks"].items():
            if role in self.banks and bank.shape != self.banks[role].shape:
                raise InputError(
                    f"the saved bank has shape {tuple(bank.shape)}; expected {tuple(self.banks[role].shape)}"
                )
        self.banks = {role: bank.clone() for role, bank in state["banks"].items()}
        self._news = None
        self.log_constants = dict(state["log_constants"])
        self.seed, self.steps = state["seed"], state["steps"]
