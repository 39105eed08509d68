"""The terms block by block, without the matrix of products."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mcld.contrast.matrix import differentiable_gradient
from mcld.contrast.parts import Contrast, Part, Relation, flatten_relation, unflatten_relation
from mcld.rows import no_autocast

BLOCK = 2**20
"""Products in a block: few enough to stay near the caches, enough to keep a matrix product busy."""
ANCHORS = 2048
"""Anchors in a block: with so many, blocks are wide enough for a matrix product to be fast, and what is summed up for
the anchors stays near the caches."""


def blocked(relation: Relation, terms: Sequence[Contrast], anchors: Tensor, *candidates: Tensor) -> tuple[Tensor, ...]:
    """The terms, computed for some anchors after the other: products of both sides' blocks stay near the caches."""
    n = len(anchors)
    if n <= ANCHORS:
        return _Blocked.apply(relation, terms, anchors, *candidates)  # type: ignore[no-any-return]
    parts: list[Tensor] = []
    for rows in torch.split(anchors, ANCHORS):
        start = len(parts) * ANCHORS
        related = _of_anchors(relation, slice(start, start + len(rows)))
        found = torch.stack(_Blocked.apply(related, terms, rows, *candidates))
        parts.append(found * (len(rows) / n))
    return torch.stack(parts).sum(dim=0).unbind()


class _Sums:
    """What one term has summed up over the blocks so far, per anchor (n,).

    Attributes:
        lse: the logarithm of the denominator.
        dot: the sum of the targets' weights times products; for soft targets, of those so far.
        total: the sum of the weights; for soft targets, the logarithm of their own denominator.
    """

    def __init__(self, term: Contrast) -> None:
        self.term = term
        self.lse: Tensor | None = None
        self.dot: Tensor | None = None
        self.total: Tensor | None = None

    def add(self, part: Part) -> None:
        """Take in one block."""
        excluded = part.excluded(self.term)
        self.lse = _log_add(self.lse, part.scaled(self.term, excluded).logsumexp(dim=1))
        if self.term.targets == "own":
            return
        if self.term.targets == "soft":
            exponents = part.soft_scaled(self.term, excluded)
            before, self.total = self.total, _log_add(self.total, exponents.logsumexp(dim=1))
            # An anchor without a candidate up to here has −inf, and −inf minus −inf is NaN.
            finite = self.total.clamp(min=torch.finfo(self.total.dtype).min)
            dot = torch.linalg.vecdot(exponents.sub_(finite.unsqueeze(1)).exp_(), part.products)
            if before is not None and self.dot is not None:
                dot.addcmul_(self.dot, (before - finite).exp_())
            self.dot = dot
            return
        weights = part.positives() if self.term.targets == "labels" else part.weights
        assert weights is not None
        dot, total = (weights * part.products).sum(dim=1), weights.sum(dim=1, dtype=part.products.dtype)
        self.dot = dot if self.dot is None else self.dot + dot
        self.total = total if self.total is None else self.total + total

    def loss(self, own: Tensor | None) -> Tensor:
        """The term from all blocks, given the product of each anchor with its own candidate."""
        assert self.lse is not None
        lse, dot = self.lse, self.dot
        if self.term.targets == "own":
            dot = own
        elif self.term.targets == "labels":
            assert dot is not None
            assert self.total is not None
            dot = dot / self.total
        elif self.term.targets == "weights":
            assert self.total is not None
            lse = lse * self.total
        assert dot is not None
        return lse.sub(dot, alpha=1 / self.term.temperature).mean()

    def slope(self, part: Part, factor: Tensor) -> Tensor:
        """The term's derivative by a block's products (n, w), times a factor; what own candidates add is not in it."""
        assert self.lse is not None
        excluded = part.excluded(self.term)
        out = part.scaled(self.term, excluded).sub_(self.lse.unsqueeze(1)).exp_()
        if self.term.targets != "own":
            assert self.total is not None
            total = self.total.unsqueeze(1)
            if self.term.targets == "soft":
                out.sub_(part.soft_scaled(self.term, excluded).sub_(total).exp_())
            elif self.term.targets == "labels":
                out.sub_(part.positives() / total)
            else:
                out.mul_(total).sub_(part.weights)  # type: ignore[arg-type]
        return out.mul_(factor)


class _Blocked(torch.autograd.Function):
    """The terms and their gradient without the matrix."""

    @staticmethod
    def forward(
        ctx: Any, relation: Relation, terms: Sequence[Contrast], anchors: Tensor, *candidates: Tensor
    ) -> tuple[Tensor, ...]:
        sums = [_Sums(term) for term in terms]
        with no_autocast(anchors):
            for part in _blocks(anchors, candidates, relation):
                for one in sums:
                    one.add(part)
            indexed = any(term.targets == "own" for term in terms)
            own = torch.linalg.vecdot(anchors, _own_rows(anchors, candidates, relation)) if indexed else None
        related, rest = flatten_relation(relation)
        ctx.save_for_backward(anchors, *candidates, *related)
        ctx.more = rest, sums, len(candidates)
        return tuple(one.loss(own) for one in sums)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rest, sums, pieces = ctx.more
        anchors, *others = ctx.saved_tensors
        candidates, relation = others[:pieces], unflatten_relation(others[pieces:], rest)
        wanted = ctx.needs_input_grad[2:]
        with no_autocast(anchors):
            if torch.is_grad_enabled():  # the gradient itself is to be differentiated
                terms = [one.term for one in sums]
                return None, None, *differentiable_gradient(anchors, candidates, relation, terms, wanted, grads)
            factors = [grad / (len(anchors) * one.term.temperature) for grad, one in zip(grads, sums, strict=True)]
            by_anchors: Tensor | None = None
            by_candidates = [
                torch.empty_like(rows) if needed else None for rows, needed in zip(candidates, wanted[1:], strict=True)
            ]
            for part in _blocks(anchors, candidates, relation):
                slope = sums[0].slope(part, factors[0])
                for one, factor in zip(sums[1:], factors[1:], strict=True):
                    slope.add_(one.slope(part, factor))
                if wanted[0]:
                    by_anchors = slope @ part.rows if by_anchors is None else by_anchors.addmm_(slope, part.rows)
                piece = by_candidates[part.piece]
                if piece is not None:
                    torch.mm(slope.T, anchors, out=piece[part.inside])
            indexed = [factor for factor, one in zip(factors, sums, strict=True) if one.term.targets == "own"]
            if indexed:
                factor = sum(indexed[1:], indexed[0])
                if by_anchors is not None:
                    by_anchors.addcmul_(_own_rows(anchors, candidates, relation), factor, value=-1)
                if by_candidates[0] is not None and relation.own is None:
                    by_candidates[0][_own_place(anchors, relation)].addcmul_(anchors, factor, value=-1)
                elif by_candidates[0] is not None:
                    assert relation.own is not None
                    by_candidates[0].index_add_(0, relation.own, anchors * factor, alpha=-1)
        return None, None, by_anchors, *by_candidates


def _of_anchors(relation: Relation, place: slice) -> Relation:
    """What relates some of the anchors with the candidates."""

    def cut(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[place]

    labels, soft = relation.labels, relation.soft
    return relation._replace(
        labels=None if labels is None else (labels[0][place], labels[1]),
        own=cut(relation.own),
        first=relation.first + place.start,
        soft=None if soft is None else (soft[0][place], soft[1]),
        weights=cut(relation.weights),
        mask=cut(relation.mask),
    )


def _blocks(anchors: Tensor, candidates: Sequence[Tensor], relation: Relation) -> Iterator[Part]:
    """The products, block by block; a block lies within one piece of the candidates."""
    width = max(BLOCK // len(anchors), 16)
    offset = 0
    for piece, rows in enumerate(candidates):
        for start in range(0, len(rows), width):
            yield Part(anchors, candidates, piece, slice(start, min(start + width, len(rows))), offset, relation)
        offset += len(rows)


def _own_rows(anchors: Tensor, candidates: Sequence[Tensor], relation: Relation) -> Tensor:
    """The candidate of each anchor, (n, d)."""
    return candidates[0][_own_place(anchors, relation) if relation.own is None else relation.own]


def _own_place(anchors: Tensor, relation: Relation) -> slice:
    return slice(relation.first, relation.first + len(anchors))


def _log_add(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else torch.logaddexp(a, b)
