"""The terms from the whole matrix of products: in operations that autograd knows, and with the gradient written out."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.contrast.parts import Contrast, Part, Relation, flatten_relation, joined, unflatten_relation
from mcld.rows import no_autocast


def plain(anchors: Tensor, candidates: Sequence[Tensor], relation: Relation, terms: Sequence[Contrast]) -> list[Tensor]:
    """The terms in operations that autograd and the compiler know."""
    part = full_part(anchors, candidates, relation)
    scaled = {term.temperature: part.products / term.temperature for term in terms}
    losses = []
    for term in terms:
        exponents, excluded = scaled[term.temperature], part.excluded(term)
        if excluded is not None:
            exponents = exponents.masked_fill(excluded, float("-inf"))
        if term.targets == "own":
            index = relation.own
            if index is None:
                index = torch.arange(relation.first, relation.first + len(anchors), device=anchors.device)
            losses.append(F.cross_entropy(exponents, index))
            continue
        log_shares = exponents.log_softmax(dim=1)
        if excluded is not None:  # as a weight of 0 times −inf is NaN
            log_shares = log_shares.masked_fill(excluded, 0.0)
        losses.append((part.target_weights(term, excluded) * log_shares).sum() / -len(anchors))
    return losses


def values_and_slopes(
    anchors: Tensor,
    candidates: Sequence[Tensor],
    relation: Relation,
    terms: Sequence[Contrast],
    weights: Sequence[float],
) -> tuple[list[Tensor], list[Tensor]]:
    """Each term times its weight, and what :func:`weighted_slope` asks for, from the whole matrix; not differentiable.

    Half the operations of what autograd would record, which is what small sizes cost. Arguments as in :func:`contrast`.

    Args:
        weights: a number for each term.
    """
    part = full_part(anchors, candidates, relation)
    scaled = {term.temperature: part.products / term.temperature for term in terms}
    values, slopes = [], []
    for term, weight in zip(terms, weights, strict=True):
        total, slope = _total_and_slope(part, term, scaled[term.temperature], relation)
        values.append(torch.rsub(total, 0.0, alpha=weight / len(anchors)))  # 0 − 0 is 0, −1 times 0 is −0
        slopes.append(slope)
    return values, slopes


def weighted_slope(
    slopes: Sequence[Tensor], grads: Sequence[Tensor], terms: Sequence[Contrast], weights: Sequence[float]
) -> Tensor:
    """The derivative (n, N) by the products of whatever has the gradients ``grads`` by the weighted terms.

    Args:
        slopes: of each term, the derivative of n times its value by the exponents.
        grads: numbers.
        terms: whose slopes these are.
        weights: a number for each term.
    """
    n = slopes[0].shape[0]
    grads = [g * (w / (n * term.temperature)) for g, term, w in zip(grads, terms, weights, strict=True)]
    slope = slopes[0] * grads[0]
    for other, grad in zip(slopes[1:], grads[1:], strict=True):
        slope = slope.addcmul(other, grad)  # not in place: one gradient may be a batch of them and another not
    return slope


def full(relation: Relation, terms: Sequence[Contrast], anchors: Tensor, *candidates: Tensor) -> tuple[Tensor, ...]:
    """The terms, with their derivatives by the products kept for the backward pass."""
    return _Whole.apply(relation, terms, anchors, *candidates)  # type: ignore[no-any-return]


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, relation: Relation, terms: Sequence[Contrast], anchors: Tensor, *candidates: Tensor
    ) -> tuple[Tensor, ...]:
        with no_autocast(anchors):
            values, slopes = values_and_slopes(anchors, candidates, relation, terms, [1.0] * len(terms))
        related, rest = flatten_relation(relation)
        ctx.save_for_backward(anchors, *slopes, *candidates, *related)
        ctx.more = rest, terms, len(candidates)
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rest, terms, pieces = ctx.more
        anchors, *others = ctx.saved_tensors
        slopes, others = others[: len(terms)], others[len(terms) :]
        candidates, related = others[:pieces], others[pieces:]
        wanted = ctx.needs_input_grad[2:]
        with no_autocast(anchors):
            if torch.is_grad_enabled():  # the gradient itself is to be differentiated
                relation = unflatten_relation(related, rest)
                return None, None, *differentiable_gradient(anchors, candidates, relation, terms, wanted, grads)
            slope = weighted_slope(slopes, grads, terms, [1.0] * len(terms))
            by_anchors = slope @ joined(candidates) if wanted[0] else None
            by_candidates: Sequence[Tensor | None] = [None] * len(candidates)
            if any(wanted[1:]):
                by_candidates = (slope.T @ anchors).split([len(rows) for rows in candidates])
        return None, None, by_anchors, *by_candidates


def _total_and_slope(part: Part, term: Contrast, exponents: Tensor, relation: Relation) -> tuple[Tensor, Tensor]:
    """A term times −n, and the derivative (n, N) of n times the term by the exponents, which stay as they are."""
    n, excluded = len(exponents), part.excluded(term)
    if excluded is not None:
        exponents = exponents.masked_fill(excluded, float("-inf"))
    log_shares = exponents.log_softmax(dim=1)
    slope = log_shares.exp()
    if term.targets == "own" and relation.own is None:
        total = log_shares.diagonal(relation.first).sum()
        slope.diagonal(relation.first).sub_(1)
    elif term.targets == "own":
        assert relation.own is not None
        index = relation.own.unsqueeze(1)
        total = log_shares.gather(1, index).sum()
        slope.scatter_add_(1, index, slope.new_full((n, 1), -1.0))
    else:
        weights = part.target_weights(term, excluded)
        if excluded is not None:  # as a weight of 0 times −inf is NaN
            log_shares.masked_fill_(excluded, 0.0)
        total = log_shares.mul_(weights).sum()
        if term.targets == "weights":  # which need not sum to exactly 1
            slope.mul_(weights.sum(dim=1, keepdim=True))
        slope.sub_(weights)
    return total, slope


def full_part(anchors: Tensor, candidates: Sequence[Tensor], relation: Relation) -> Part:
    """All candidates as one part."""
    if relation.soft is not None:
        relation = relation._replace(soft=(relation.soft[0], [joined(relation.soft[1])]))
    rows = joined(candidates)
    return Part(anchors, [rows], 0, slice(0, len(rows)), 0, relation)


def differentiable_gradient(
    anchors: Tensor,
    candidates: Sequence[Tensor],
    relation: Relation,
    terms: Sequence[Contrast],
    wanted: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradient by anchors and pieces of candidates, as far as wanted, where that is to be differentiated itself."""
    # Aliases, as one may have been made of the other: what flows that way is not for this function to count.
    anchors, *candidates = (x.view_as(x) for x in (anchors, *candidates))
    losses = plain(anchors, candidates, relation, terms)
    inputs = [x for x, needed in zip((anchors, *candidates), wanted, strict=True) if needed]
    found = iter(torch.autograd.grad(losses, inputs, grads, create_graph=True))
    return [next(found) if needed else None for needed in wanted]
