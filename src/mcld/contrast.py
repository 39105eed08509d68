"""The contrastive kernel: InfoNCE terms that share one matrix of products, which need not exist as a whole.

Three forms give the same numbers. ``plain`` is written in differentiable operations on the matrix, for compilers and
higher derivatives. ``whole`` has the gradient written out and keeps the matrix of each term's derivatives: the fastest
where matrices are small. ``blocked`` goes through anchors and candidates block by block with running log-sum-exps,
keeps one or two numbers per anchor and term, and computes the products once more in the backward pass: its memory grows
with n + N, not with n · N.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.rows import no_autocast

WHOLE = 2**22
"""Products (n · N) up to which the matrix is held as a whole. Where the two take equally long, as measured by
``benchmarks/loss_scale.py --switch``."""
BLOCK = 2**20
"""Products in a block: few enough to stay near the caches, enough to keep a matrix product busy."""
ANCHORS = 2048
"""Anchors in a block: with so many, blocks are wide enough for a matrix product to be fast, and what is summed up for
the anchors stays near the caches."""
FORMS = ("plain", "whole", "blocked")

_forced: str | None = None


class Contrast(NamedTuple):
    """One InfoNCE over the products that it shares with others.

    Attributes:
        temperature: τ > 0.
        targets: ``own`` (one candidate for each anchor), ``labels`` (equally all that have the anchor's label),
            ``soft`` (the softmax of other products over the same candidates) or ``weights`` (as given).
        target_mask: leave candidates with the anchor's label out of the denominator, except candidate i of anchor i.
        target_temperature: of soft targets, > 0.
    """

    temperature: float
    targets: str = "own"
    target_mask: bool = False
    target_temperature: float = 1.0


class Relation(NamedTuple):
    """What relates n anchors with N candidates besides their products; each term reads what it needs.

    Attributes:
        labels: (n,) and (N,) int64.
        valid: (N,) bool, the candidates that count; None: all.
        own: (n,) int64, the candidate of each anchor; None: candidate first + i belongs to anchor i.
        soft: (n, d) and, in as many pieces as the candidates, (N, d): the rows whose products are the soft targets.
        weights: (n, N), each row with sum 1.
        mask: (n, N) bool, the candidates that count for each anchor; None: all.
        first: of anchors that are a part of all, how many anchors come before them.
    """

    labels: tuple[Tensor, Tensor] | None = None
    valid: Tensor | None = None
    own: Tensor | None = None
    soft: tuple[Tensor, Sequence[Tensor]] | None = None
    weights: Tensor | None = None
    mask: Tensor | None = None
    first: int = 0


@contextmanager
def force_form(form: str) -> Iterator[None]:
    """Compute in one of :data:`FORMS`, whatever the size; for tests and benchmarks."""
    global _forced
    if form not in FORMS:
        raise ValueError(f"form {form!r}; expected one of {FORMS}")
    before, _forced = _forced, form
    try:
        yield
    finally:
        _forced = before


def contrast(
    anchors: Tensor, candidates: Sequence[Tensor], relation: Relation, terms: Sequence[Contrast]
) -> list[Tensor]:
    """Each term's mean over the anchors, from one pass over the products; nothing is checked.

    Gradients flow to anchors and candidates, through ``plain`` also to the weights. They can be differentiated again
    (in the plain form, with its memory); forward-mode derivatives and ``torch.func`` need the plain form.

    Args:
        anchors: (n, d), float32 or float64.
        candidates: pieces of (N, d), in the same dtype; without ``own`` the first holds at least n rows.
        relation: of anchors and candidates. Every anchor has at least one candidate that counts, its targets do.
        terms: at least one.
    """
    whole, compiled = is_whole(len(anchors), sum(map(len, candidates))), torch.compiler.is_compiling()
    learnt = relation.weights is not None and relation.weights.requires_grad
    if _forced == "plain" or learnt or (whole and compiled):
        with no_autocast(anchors):
            return _plain(anchors, candidates, relation, terms)
    if compiled:
        from mcld.uncompiled import call  # here: it imports the compiler, which takes a second

        return list(call(_blocked, relation, terms, anchors, *candidates))
    return list((_Whole.apply if whole else _blocked)(relation, terms, anchors, *candidates))


def is_whole(n: int, N: int) -> bool:
    """Whether the products of n anchors with N candidates are held as a whole, with their gradient written out."""
    return n * N <= WHOLE if _forced is None else _forced == "whole"


class _Part:
    """The products of all anchors with some candidates, and what is known of the two.

    Args:
        anchors: (n, d).
        candidates: all pieces.
        piece: of the candidates.
        inside: the w rows of that piece.
        offset: of the piece among all candidates.
        relation: of anchors and all candidates.
    """

    def __init__(
        self, anchors: Tensor, candidates: Sequence[Tensor], piece: int, inside: slice, offset: int, relation: Relation
    ) -> None:
        self.piece, self.inside = piece, inside
        self.rows = _cut(candidates[piece], 0, inside)
        self.products = anchors @ self.rows.T
        place = slice(offset + inside.start, offset + inside.stop)
        self.diagonal = relation.first - place.start
        self.soft = None if relation.soft is None else relation.soft[0] @ _cut(relation.soft[1][piece], 0, inside).T
        self.weights = None if relation.weights is None else _cut(relation.weights, 1, place).to(anchors.dtype)
        self.left_out = None if relation.valid is None else ~_cut(relation.valid, 0, place).unsqueeze(0)
        if relation.mask is not None:
            self.left_out = ~_cut(relation.mask, 1, place)
        self.same: Tensor | None = None
        if relation.labels is not None:
            self.same = relation.labels[0].unsqueeze(1) == _cut(relation.labels[1], 0, place)

    def positives(self) -> Tensor:
        """Which candidates that count have the anchor's label, (n, w) bool."""
        assert self.same is not None
        return self.same if self.left_out is None else self.same & ~self.left_out

    def excluded(self, term: Contrast) -> Tensor | None:
        """Which candidates are not in the denominator, (n, w) or (1, w) bool; None: all are."""
        if not term.target_mask:
            return self.left_out
        assert self.same is not None
        others = self.same.clone()
        others.diagonal(self.diagonal).fill_(False)  # the anchors' own candidates, as far as they are in this part
        return others if self.left_out is None else others | self.left_out

    def scaled(self, term: Contrast, excluded: Tensor | None) -> Tensor:
        """The exponents of the denominator."""
        out = self.products / term.temperature
        return out if excluded is None else out.masked_fill_(excluded, float("-inf"))

    def target_weights(self, term: Contrast, excluded: Tensor | None) -> Tensor:
        """The weights of targets that are not single candidates (n, w), when this part holds all candidates."""
        if term.targets == "soft":
            return self.soft_scaled(term, excluded).softmax(dim=1)
        if term.targets == "labels":
            weights = self.positives().to(self.products.dtype)
            return weights.div_(weights.sum(dim=1, keepdim=True))
        assert self.weights is not None
        return self.weights

    def soft_scaled(self, term: Contrast, excluded: Tensor | None) -> Tensor:
        """The exponents of the soft targets."""
        assert self.soft is not None
        out = self.soft / term.target_temperature
        return out if excluded is None else out.masked_fill_(excluded, float("-inf"))


def _plain(
    anchors: Tensor, candidates: Sequence[Tensor], relation: Relation, terms: Sequence[Contrast]
) -> list[Tensor]:
    part = _whole_part(anchors, candidates, relation)
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
    anchors: Tensor, candidates: Sequence[Tensor], relation: Relation, terms: Sequence[Contrast]
) -> tuple[list[Tensor], list[Tensor]]:
    """Each term, and its derivative by the products (n, N), from the whole matrix; not differentiable.

    Half the operations of what autograd would record, which is what small sizes cost. Arguments as in :func:`contrast`.
    """
    part = _whole_part(anchors, candidates, relation)
    scaled = {term.temperature: part.products / term.temperature for term in terms}
    pairs = [_value_and_slope(part, term, scaled[term.temperature], relation) for term in terms]
    return [value for value, _ in pairs], [slope for _, slope in pairs]


def joined(pieces: Sequence[Tensor]) -> Tensor:
    """All rows; a single piece is not copied."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))


def weighted_slope(slopes: Sequence[Tensor], grads: Sequence[Tensor]) -> Tensor:
    """The derivative by the products of whatever has these derivatives by the terms."""
    slope = slopes[0] * grads[0]
    for other, grad in zip(slopes[1:], grads[1:], strict=True):
        slope.addcmul_(other, grad)
    return slope


class _Whole(torch.autograd.Function):
    """The terms from the whole matrix; their derivatives by it are kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, relation: Relation, terms: Sequence[Contrast], anchors: Tensor, *candidates: Tensor
    ) -> tuple[Tensor, ...]:
        with no_autocast(anchors):
            values, slopes = values_and_slopes(anchors, candidates, relation, terms)
        ctx.save_for_backward(anchors, *candidates, *slopes)
        ctx.more = relation, terms
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        relation, terms = ctx.more
        anchors, *others = ctx.saved_tensors
        candidates, slopes = others[: -len(terms)], others[-len(terms) :]
        wanted = ctx.needs_input_grad[2:]
        with no_autocast(anchors):
            if torch.is_grad_enabled():  # the gradient itself is to be differentiated
                return None, None, *_differentiable_gradient(anchors, candidates, relation, terms, wanted, grads)
            slope = weighted_slope(slopes, grads)
            by_anchors = slope @ joined(candidates) if wanted[0] else None
            by_candidates: Sequence[Tensor | None] = [None] * len(candidates)
            if any(wanted[1:]):
                by_candidates = (slope.T @ anchors).split([len(rows) for rows in candidates])
        return None, None, by_anchors, *by_candidates


def _value_and_slope(part: _Part, term: Contrast, exponents: Tensor, relation: Relation) -> tuple[Tensor, Tensor]:
    """A term and its derivative by the products (n, N); the exponents stay as they are."""
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
    return total / -n, slope.mul_(1 / (n * term.temperature))


def _whole_part(anchors: Tensor, candidates: Sequence[Tensor], relation: Relation) -> _Part:
    """All candidates as one part."""
    if relation.soft is not None:
        relation = relation._replace(soft=(relation.soft[0], [joined(relation.soft[1])]))
    rows = joined(candidates)
    return _Part(anchors, [rows], 0, slice(0, len(rows)), 0, relation)


def _differentiable_gradient(
    anchors: Tensor,
    candidates: Sequence[Tensor],
    relation: Relation,
    terms: Sequence[Contrast],
    wanted: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradient by anchors and pieces of candidates, as far as wanted, where that is to be differentiated itself."""
    losses = _plain(anchors, candidates, relation, terms)
    inputs = [x for x, needed in zip((anchors, *candidates), wanted, strict=True) if needed]
    found = iter(torch.autograd.grad(losses, inputs, grads, create_graph=True))
    return [next(found) if needed else None for needed in wanted]


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

    def add(self, part: _Part) -> None:
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

    def slope(self, part: _Part, factor: Tensor) -> Tensor:
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
        ctx.save_for_backward(anchors, *candidates)
        ctx.more = relation, sums
        return tuple(one.loss(own) for one in sums)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        anchors, *candidates = ctx.saved_tensors
        relation, sums = ctx.more
        wanted = ctx.needs_input_grad[2:]
        with no_autocast(anchors):
            if torch.is_grad_enabled():  # the gradient itself is to be differentiated
                terms = [one.term for one in sums]
                return None, None, *_differentiable_gradient(anchors, candidates, relation, terms, wanted, grads)
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
                    by_candidates[0].index_add_(0, relation.own, anchors * factor, alpha=-1)
        return None, None, by_anchors, *by_candidates


def _blocked(relation: Relation, terms: Sequence[Contrast], anchors: Tensor, *candidates: Tensor) -> tuple[Tensor, ...]:
    """The terms, computed for some anchors after the other: products of both sides' blocks stay near the caches."""
    n = len(anchors)
    if n <= ANCHORS:
        return _Blocked.apply(relation, terms, anchors, *candidates)  # type: ignore[no-any-return]
    parts = []
    for rows in anchors.split(ANCHORS):
        start = len(parts) * ANCHORS
        own = slice(start, start + len(rows))
        related = _of_anchors(relation, own)
        found = torch.stack(_Blocked.apply(related, terms, rows, *candidates))
        parts.append(found * (len(rows) / n))
    return torch.stack(parts).sum(dim=0).unbind()


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


def _blocks(anchors: Tensor, candidates: Sequence[Tensor], relation: Relation) -> Iterator[_Part]:
    """The products, block by block; a block lies within one piece of the candidates."""
    width = max(BLOCK // len(anchors), 16)
    offset = 0
    for piece, rows in enumerate(candidates):
        for start in range(0, len(rows), width):
            yield _Part(anchors, candidates, piece, slice(start, min(start + width, len(rows))), offset, relation)
        offset += len(rows)


def _cut(x: Tensor, dim: int, place: slice) -> Tensor:
    """``x`` from place.start to place.stop along a dimension; ``x`` itself, at no cost, where that is all of it."""
    width = place.stop - place.start
    return x if x.shape[dim] == width else x.narrow(dim, place.start, width)


def _own_rows(anchors: Tensor, candidates: Sequence[Tensor], relation: Relation) -> Tensor:
    """The candidate of each anchor, (n, d)."""
    return candidates[0][_own_place(anchors, relation) if relation.own is None else relation.own]


def _own_place(anchors: Tensor, relation: Relation) -> slice:
    return slice(relation.first, relation.first + len(anchors))


def _log_add(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else torch.logaddexp(a, b)
