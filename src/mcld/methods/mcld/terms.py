"""The terms of MCLD, times their weights: which rows are compared with which, and in what direction."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from mcld.contrast import Contrast, Relation, contrast, fits_full
from mcld.contrast.matrix import plain, values_and_slopes, weighted_slope
from mcld.contrast.parts import joined
from mcld.methods._base import Terms
from mcld.methods.mcld.options import Category, Instance, Sample
from mcld.rows import (
    at_least_float32,
    constant_step,
    differentiable_unit_rows,
    no_autocast,
    unit_and_scale,
    unit_rows,
    unit_rows_gradient,
)


class Candidates(NamedTuple):
    """What is known of the teacher's rows that row terms compare with: those of the batch, then those of the bank.

    Attributes:
        stored: the rows of the bank (M, C), as one piece; none without a bank.
        labels: (N,) int64, N = B + M.
        valid: (N,) bool, False for rows of the bank that are empty or of an image in the batch; None: all are.
    """

    stored: tuple[Tensor, ...]
    labels: Tensor
    valid: Tensor | None


class Perspectives(NamedTuple):
    """Perspectives on the same rows of both networks.

    Attributes:
        columns: whether the rows are classes, columns of the logits, and not images.
        named: the options of the terms.
        relation: of the student's rows with all of the teacher's, with labels unless each row has one counterpart only.
        bank: further unit rows of the teacher, in pieces.
    """

    columns: bool
    named: Mapping[str, Sample]
    relation: Relation = Relation()
    bank: Sequence[Tensor] = ()


class Direction(NamedTuple):
    """One call of the kernel: some terms of a comparison, with the student's rows as anchors or as candidates.

    Attributes:
        from_student: whether the student's rows are the anchors.
        anchors: unit rows (B, d).
        candidates: unit rows, (B, d) and further pieces; the first B are the anchors' counterparts.
        relation: of the two.
        terms: what is asked for.
        weights: of the terms.
    """

    from_student: bool
    anchors: Tensor
    candidates: Sequence[Tensor]
    relation: Relation
    terms: Sequence[Contrast]
    weights: Sequence[float]


def directions(comparison: Perspectives, student: Tensor, teacher: Sequence[Tensor]) -> Iterator[Direction]:
    """Each direction that some perspective's ``anchor`` asks for; from the teacher, among the batch alone.

    Args:
        comparison: what is compared.
        student: unit rows (B, d).
        teacher: unit rows, those of the batch before those of the bank, in any pieces of which the first has the batch.
    """
    named, relation = comparison.named, comparison.relation
    for side in ("student", "teacher"):
        used = {name: options for name, options in named.items() if options.anchor in (side, "both")}
        if not used:
            continue
        from_student = side == "student"
        counterparts = teacher[0][: len(student)]
        anchors, candidates, related = student, teacher, relation
        if not from_student:
            anchors, candidates = counterparts, (student,)
            related = Relation(None if relation.labels is None else (relation.labels[0], relation.labels[0]))
        if any(options.targets == "soft" for options in used.values()):
            # The teacher's own rows: what the student would see if it were the teacher.
            related = related._replace(soft=(counterparts, candidates if from_student else (counterparts,)))
        terms, weights = [term_of(options) for options in used.values()], [options.weight for options in used.values()]
        yield Direction(from_student, anchors, candidates, related, terms, weights)


def probabilities(logits: Tensor, temperature: float | None) -> Tensor:
    """The softmax (B, C) of logits at a temperature, at least float32; without one, the logits."""
    return logits if temperature is None else (at_least_float32(logits)[0] / temperature).softmax(dim=1)


def compared(logs: Tensor, columns: bool, softmax: bool) -> Tensor:
    """What is compared: rows (..., B, C), or for columns (..., C, B), of logarithms of probabilities or of logits.

    A class's probabilities are divided by their largest while still logarithms. Their direction is the same, and those
    of a class that is unlikely in all images do not vanish.
    """
    if columns:
        logs = logs.mT
    if not softmax:
        return logs.contiguous() if columns else logs
    return (logs - logs.detach().amax(dim=-1, keepdim=True) if columns else logs).exp()


def compare(
    student: Tensor, teacher: Tensor, comparisons: Sequence[Perspectives], center: bool, softmax: float | None
) -> Terms:
    """The terms of all comparisons times their weights, by name; one with both directions is their mean.

    Args:
        student: logits (B, C).
        teacher: logits (B, C), without gradient.
        comparisons: at least one, with different names.
        center: whether rows are centred.
        softmax: the temperature of the probabilities that are compared; None: logits are.
    """
    B, C = student.shape
    step = constant_step(student)
    if softmax is not None:
        student, teacher = *at_least_float32(student), *at_least_float32(teacher)
        step = constant_step(student)
    s, t = at_least_float32(student, teacher)
    same = student.dtype == teacher.dtype and all(rows.dtype is s.dtype for one in comparisons for rows in one.bank)
    sizes = [(C, C) if one.columns else (B, B + sum(map(len, one.bank))) for one in comparisons]
    if same and all(fits_full(n, N, s.device) for n, N in sizes) and not torch.compiler.is_compiling():
        values = _Whole.apply(comparisons, center, step, softmax, s, t)
    else:
        if softmax is not None:
            student, teacher = ((x / softmax).log_softmax(dim=1) for x in (student, teacher))
        values = _step_by_step(comparisons, center, softmax is not None, student, teacher)
    found: dict[str, list[Tensor]] = {name: [] for one in comparisons for name in one.named}
    for name, value in zip(_names(comparisons), values, strict=True):
        found[name].append(value)
    return {name: _mean(losses) for name, losses in found.items()}


def _names(comparisons: Sequence[Perspectives]) -> Iterator[str]:
    """The names of the values that follow, in their order."""
    for comparison in comparisons:
        for side in ("student", "teacher"):
            yield from (name for name, options in comparison.named.items() if options.anchor in (side, "both"))


def _step_by_step(
    comparisons: Sequence[Perspectives], center: bool, softmax: bool, student: Tensor, teacher: Tensor
) -> list[Tensor]:
    """The values in operations that autograd and the compiler know, of logits or logarithms of probabilities."""
    values = []
    for comparison in comparisons:
        s, t = (compared(x, comparison.columns, softmax) for x in (student, teacher))
        a, z, *bank = at_least_float32(unit_rows(s, center), unit_rows(t, center), *comparison.bank)
        for one in directions(comparison, a, [z, *bank]):
            values += _weighted(contrast(one.anchors, one.candidates, one.relation, one.terms), one.weights)
    return values


def _weighted(values: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
    return [value if weight == 1 else weight * value for value, weight in zip(values, weights, strict=True)]


Layout: TypeAlias = list[tuple[bool, list[tuple[bool, Sequence[Contrast], Sequence[float]]]]]
"""What is kept for the backward pass: for each comparison whether it is of columns, and for each of its directions
whether it is from the student, its terms and their weights."""


class _Whole(torch.autograd.Function):
    """All values of small matrices as one function, as small sizes cost what the number of functions is."""

    @staticmethod
    def forward(
        ctx: Any,
        comparisons: Sequence[Perspectives],
        center: bool,
        step: float,
        softmax: float | None,
        logits: Tensor,
        teacher: Tensor,
    ) -> tuple[Tensor, ...]:
        both = torch.stack([logits, teacher])
        if softmax is not None:
            both = both.div_(softmax).log_softmax(dim=2)
        values: list[Tensor] = []
        kept: list[Tensor] = []
        layout: Layout = []
        for comparison in comparisons:
            units, scales = unit_and_scale(compared(both, comparison.columns, softmax is not None), center, step)
            unit, counterparts = units.unbind()
            rows = joined([counterparts, *comparison.bank])
            kept += [unit, scales[0], rows]
            sides = []
            for side, anchors, candidates, relation, terms, weights in directions(comparison, unit, [rows]):
                found, slopes = values_and_slopes(anchors, candidates, relation, terms, weights)
                values += found
                kept += slopes
                sides.append((side, terms, weights))
            layout.append((comparison.columns, sides))
        ctx.save_for_backward(logits, both[0], *kept)
        ctx.more = [one._replace(bank=()) for one in comparisons], center, step, softmax, layout
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        comparisons, center, step, softmax, layout = ctx.more
        logits, student, *kept = ctx.saved_tensors
        with no_autocast(logits):
            if torch.is_grad_enabled():  # the gradient itself is to be differentiated
                gradient = _differentiable_gradient(
                    logits, softmax, comparisons, center, step, layout, iter(kept), grads
                )
            else:
                logs = None if softmax is None else student
                gradient = _gradient(layout, iter(kept), iter(grads), logs)
                if softmax is not None:
                    gradient = torch.ops.aten._log_softmax_backward_data(gradient, student, 1, student.dtype) / softmax
        return None, None, None, None, gradient, None


def _differentiable_gradient(
    logits: Tensor,
    softmax: float | None,
    comparisons: Sequence[Perspectives],
    center: bool,
    step: float,
    layout: Layout,
    kept: Iterator[Tensor],
    grads: Sequence[Tensor],
) -> Tensor:
    values, student = [], logits if softmax is None else (logits / softmax).log_softmax(dim=1)
    for comparison, (columns, sides) in zip(comparisons, layout, strict=True):
        rows = [next(kept) for _ in range(3 + sum(len(terms) for _, terms, _ in sides))][2]
        unit = differentiable_unit_rows(compared(student, columns, softmax is not None), center, step)
        for one in directions(comparison, unit, [rows]):
            values += _weighted(plain(one.anchors, one.candidates, one.relation, one.terms), one.weights)
    (gradient,) = torch.autograd.grad(values, logits, grads, create_graph=True)
    return gradient


def _gradient(layout: Layout, kept: Iterator[Tensor], grads: Iterator[Tensor], logs: Tensor | None) -> Tensor:
    """The gradient by the student's logits, from what was kept and the gradients by the values.

    Where probabilities are compared it is that by ``logs``, their logarithms.
    """
    total: Tensor | None = None
    for columns, sides in layout:
        unit, scale, rows = next(kept), next(kept), next(kept)
        by_unit: Tensor | None = None
        for from_student, terms, weights in sides:
            slopes = [next(kept) for _ in terms]
            slope = weighted_slope(slopes, [next(grads) for _ in terms], terms, weights)
            part = slope @ rows if from_student else slope.T @ rows[: len(slope)]
            by_unit = part if by_unit is None else by_unit + part
        assert by_unit is not None
        # Where rows are centred, so are the teacher's, and with them what by_unit is a sum of.
        grad = unit_rows_gradient(by_unit, unit, scale, center=False)
        if logs is not None:  # the derivative of an exponential is itself
            grad = grad * compared(logs, columns, softmax=True)
        grad = grad.T if columns else grad
        total = grad if total is None else total + grad
    assert total is not None
    return total


def term_of(options: Sample) -> Contrast:
    """What the kernel is asked for."""
    hard = "labels" if type(options) is Sample else "own"
    temperature = options.temperature if options.target_temperature is None else options.target_temperature
    mask = isinstance(options, Instance) and options.target_mask
    return Contrast(options.temperature, "soft" if options.targets == "soft" else hard, mask, temperature)


def prototype_contrast(
    student: Tensor, teacher: Tensor, candidates: Candidates, options: Category, center: bool
) -> Tensor:
    """The category-wise term with prototypes: what is compared of an image against each class's mean.

    Args:
        student: (B, C).
        teacher: (B, C).
        candidates: the teacher's rows.
        options: of the perspective; its warm-up is not applied.
        center: whether rows are centred.
    """
    labels = candidates.labels[: len(student)]
    losses = []
    for direction in ("student", "teacher"):
        if options.anchor not in (direction, "both"):
            continue
        # Student rows look among the teacher's prototypes, which the bank makes better; teacher rows look among the
        # student's, and there are those of the batch only. Soft targets come from the teacher in both places.
        if direction == "student":
            means, present = class_means((teacher, *candidates.stored), candidates.labels, candidates.valid)
        else:
            means, present = class_means((student,), labels)
        soft = None
        if options.targets == "soft":
            own = means if direction == "student" else class_means((teacher,), labels)[0]
            soft = at_least_float32(unit_rows(teacher, center), unit_rows(own, center))
        anchors = student if direction == "student" else teacher
        a, z = at_least_float32(unit_rows(anchors, center), unit_rows(means, center))
        relation = Relation(valid=present, own=labels, soft=None if soft is None else (soft[0], soft[1:]))
        losses += contrast(a, [z], relation, [term_of(options)])
    return options.weight * _mean(losses)


def class_means(rows: Sequence[Tensor], labels: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Each class's mean row (C, C), zero where there is none, and (C,) bool, True where there is one.

    Args:
        rows: pieces of (N, C).
        labels: (N,) int64.
        valid: (N,) bool, the rows that count; None: all.
    """
    classes = rows[0].shape[1]
    dtype = at_least_float32(*(piece[:0] for piece in rows))[0].dtype
    if valid is not None:
        labels = labels.masked_fill(~valid, classes)
    sums = torch.zeros(classes + 1, classes, dtype=dtype, device=labels.device)  # the last: not valid
    start = 0
    for piece in rows:
        sums = sums.index_add(0, labels[start : start + len(piece)], piece.to(dtype))
        start += len(piece)
    counts = torch.zeros(classes + 1, dtype=dtype, device=labels.device)
    counts = counts.index_add(0, labels, torch.ones_like(labels, dtype=dtype))[:classes]
    return sums[:classes] / counts.clamp(min=1).unsqueeze(1), counts > 0


def _mean(losses: list[Tensor]) -> Tensor:
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()
