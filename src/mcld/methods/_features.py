"""What methods on features and relations share: their checks, and how stages are matched."""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.errors import InputError
from mcld.methods._base import Method, Outputs, Shapes, Terms, check_batch
from mcld.rows import at_least_float32

MAPS = frozenset({"logits", "maps"})
POOLED = frozenset({"logits", "pooled"})

T = TypeVar("T")


class FeatureMethod(Method):
    """A method on features; :meth:`compare` gets checked outputs in at least float32, the teacher's detached.

    A subclass says what it ``needs``, and gives :meth:`compare`.
    """

    family = "features"

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """Return the weighted terms; see :meth:`Method.forward`."""
        progress = self.known_progress(progress)
        s, t = check_outputs(self, student, teacher, labels)
        return self.compare(s, t, progress, index)

    def compare(self, student: Outputs, teacher: Outputs, progress: float, index: Tensor | None) -> Terms:
        """The terms, from outputs that are checked."""
        raise NotImplementedError

    def need_preparation(self, what: object) -> None:
        """Refuse to go on when ``what`` is None, since :meth:`prepare` makes it.

        Raises:
            InputError: saying what to call.
        """
        if what is None:
            raise InputError(f"{self.name} has parts sized by the networks; call prepare(...) before it is used")


def check_outputs(
    method: Method, student: Outputs | Tensor, teacher: Outputs | Tensor, labels: Tensor
) -> tuple[Outputs, Outputs]:
    """Check everything that the method needs; returned in at least float32, the teacher's detached.

    Raises:
        InputError: naming the network, what was given, and what would be right.
    """
    check_batch(student, teacher, labels, values=method.check_values)
    checked = []
    for role, outputs in (("student", student), ("teacher", teacher)):
        if not isinstance(outputs, Outputs):
            needs = " and ".join(sorted(method.needs))
            raise InputError(f"{method.name} got the {role}'s logits alone; expected Outputs with {needs}")
        checked.append(_check(method, role, outputs, len(labels)))
    s, t = checked
    detached = None if t.pooled is None else t.pooled.detach()
    weights = None
    if t.classifier is not None:
        weight, bias = t.classifier
        weights = (weight.detach(), None if bias is None else bias.detach())
    return s, Outputs(t.logits.detach(), detached, tuple(m.detach() for m in t.maps), weights)


def _check(method: Method, role: str, outputs: Outputs, B: int) -> Outputs:
    pooled, maps, classifier = None, outputs.maps if "maps" in method.needs else (), None
    if "pooled" in method.needs:
        if outputs.pooled is None or outputs.pooled.ndim != 2 or len(outputs.pooled) != B:
            given = "absent" if outputs.pooled is None else f"of shape {tuple(outputs.pooled.shape)}"
            raise InputError(f"{role} pooled features are {given}; {method.name} expects ({B}, D)")
        (pooled,) = at_least_float32(outputs.pooled)
    if "maps" in method.needs:
        if not maps or any(m.ndim != 4 or len(m) != B for m in maps):
            given = ", ".join(str(tuple(m.shape)) for m in maps) or "absent"
            raise InputError(f"{role} maps are {given}; {method.name} expects ({B}, c, h, w) for each stage")
        maps = tuple(at_least_float32(m)[0] for m in maps)
    if "classifier" in method.needs:
        if outputs.classifier is None:
            raise InputError(f"{role} classifier is absent; {method.name} expects its weight (C, D) and bias")
        classifier = outputs.classifier
    if method.check_values and not torch.compiler.is_compiling():
        for what, values in (("pooled features", pooled), *(("maps", m) for m in maps)):
            if values is not None and not bool(torch.isfinite(values).all()):
                raise InputError(f"{role} {what} hold NaN or Inf values; expected finite numbers")
    return Outputs(outputs.logits, pooled, maps, classifier)


def pooled_pair(student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
    """The pooled features of both, (B, D) each, where they are known to be there."""
    assert student.pooled is not None
    assert teacher.pooled is not None
    return student.pooled, teacher.pooled


def check_average(method: Method, role: str, outputs: Outputs) -> None:
    """Check that the classifier reads the average of the last maps.

    Raises:
        InputError: when it reads something else, such as a class token, or those maps after a further layer.
    """
    assert outputs.pooled is not None
    last = outputs.maps[-1].detach()
    fits = last.shape[1] == outputs.pooled.shape[1]
    if fits:
        average, pooled = last.mean(dim=(2, 3)), outputs.pooled.detach()
        fits = bool((average - pooled).norm() <= 0.05 * pooled.norm())
    if not fits:
        raise InputError(
            f"the {role}'s classifier does not read the average of its last maps {tuple(last.shape)}; {method.name} "
            f"expects the maps that are averaged for it; {other_maps(role)}"
        )


def other_maps(role: str) -> str:
    """How to take other maps of a network, for messages: a method does not know which way in it was called by."""
    return f"{role}_maps=[...] names other modules, and among settings {role}.maps=[...]"


def check_averages(method: Method, student: Outputs, teacher: Outputs) -> None:
    """:func:`check_average` for both networks."""
    check_average(method, "student", student)
    check_average(method, "teacher", teacher)


def paired(student: Sequence[T], teacher: Sequence[T]) -> list[tuple[T, T]]:
    """The stages of both networks, the last with the last; the earliest of the longer are left out."""
    n = min(len(student), len(teacher))
    return list(zip(student[len(student) - n :], teacher[len(teacher) - n :], strict=True))


def paired_shapes(
    method: Method, student: Shapes, teacher: Shapes, *, grids: bool = True
) -> list[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """The (c, h, w) of matched stages.

    Args:
        method: for messages.
        student: of the student.
        teacher: of the teacher.
        grids: whether height to width must be the same in both.

    Raises:
        InputError: without maps, or for stages of which one is no smaller picture of the other, with both shapes.
    """
    pairs = paired(student.maps, teacher.maps)
    if not pairs:
        raise InputError(f"{method.name} compares maps; the student has {student.maps} and the teacher {teacher.maps}")
    for s, t in pairs if grids else ():
        _check_grids(s, t)
    return pairs


def _check_grids(s: Sequence[int], t: Sequence[int]) -> None:
    if s[-2] * t[-1] != s[-1] * t[-2]:
        raise InputError(
            f"student maps have shape {tuple(s)} and teacher maps {tuple(t)}; expected one ratio of height to width"
        )


def on_common_grid(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, c, h, w), the finer averaged down to the coarser's grid.

    Raises:
        InputError: when height to width is not the same in both, with both shapes.
    """
    if student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    _check_grids(student.shape, teacher.shape)
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)
