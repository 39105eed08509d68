"""The contrastive kernel: InfoNCE terms that share one matrix of products, which need not exist as a whole.

Two forms give the same numbers. ``plain`` is written in differentiable operations on the matrix. ``blocked`` goes
through the candidates block by block with running log-sum-exps, keeps one or two numbers per anchor and term, and
computes the products once more in the backward pass: its memory grows with n + N, not with n · N.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.rows import no_autocast

PLAIN = 2**22
"""Products (n · N) up to which the plain form is used. Where the two take equally long, as measured by
``benchmarks/loss_scale.py --switch``."""
BLOCK = 2**20
"""Products in a block: few enough to stay near the caches, enough to keep a matrix product busy."""
FORMS = ("plain", "blocked")

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
        own: (n,) int64, the candidate of each anchor; None: candidate i belongs to anchor i.
        soft: (n, d) and, in as many pieces as the candidates, (N, d): the rows whose products are the soft targets.
        weights: (n, N), each row with sum 1.
        mask: (n, N) bool, the candidates that count for each anchor; None: all.
    """

    labels: tuple[Tensor, Tensor] | None = None
    valid: Tensor | None = None
    own: Tensor | None = None
    soft: tuple[Tensor, Sequence[Tensor]] | None = None
    weights: Tensor | None = None
    mask: Tensor | None = None


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
    form = _forced or ("plain" if len(anchors) * sum(map(len, candidates)) <= PLAIN else "blocked")
    if form == "plain" or (relation.weights is not None and relation.weights.requires_grad):
        if not torch.is_autocast_enabled(anchors.device.type):
            return _plain(anchors, candidates, relation, terms)
        with no_autocast(anchors):
            return _plain(anchors, candidates, relation, terms)
    if torch.compiler.is_compiling():
        from mcld.uncompiled import call  # here: it imports the compiler, which takes a second

        return list(call(_blocked, relation, terms, anchors, *candidates))
    return list(_blocked(relation, terms, anchors, *candidates))


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
        place = self.place = slice(offset + inside.start, offset + inside.stop)
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
        start = self.place.start
        if start < len(others):
            (others[start:] if start else others).fill_diagonal_(False)  # candidate i of anchor i
        return others if self.left_out is None else others | self.left_out

    def scaled(self, term: Contrast, excluded: Tensor | None) -> Tensor:
        """The exponents of the denominator."""
        out = self.products / term.temperature
        return out if excluded is None else out.masked_fill_(excluded, float("-inf"))

    def soft_scaled(self, term: Contrast, excluded: Tensor | None) -> Tensor:
        """The exponents of the soft targets."""
        assert self.soft is not None
        out = self.soft / term.target_temperature
        return out if excluded is None else out.masked_fill_(excluded, float("-inf"))


def _plain(
    anchors: Tensor, candidates: Sequence[Tensor], relation: Relation, terms: Sequence[Contrast]
) -> list[Tensor]:
    if len(candidates) > 1:
        candidates = [torch.cat(list(candidates))]
        if relation.soft is not None:
            relation = relation._replace(soft=(relation.soft[0], [torch.cat(list(relation.soft[1]))]))
    part = _Part(anchors, candidates, 0, slice(0, len(candidates[0])), 0, relation)
    scaled = {term.temperature: part.products / term.temperature for term in terms}
    losses = []
    for term in terms:
        exponents, excluded = scaled[term.temperature], part.excluded(term)
        if excluded is not None:
            exponents = exponents.masked_fill(excluded, float("-inf"))
        if term.targets == "own":
            index = relation.own
            index = torch.arange(len(anchors), device=anchors.device) if index is None else index
            losses.append(F.cross_entropy(exponents, index))
            continue
        log_shares = exponents.log_softmax(dim=1)
        if excluded is not None:  # as a weight of 0 times −inf is NaN
            log_shares = log_shares.masked_fill(excluded, 0.0)
        if term.targets == "soft":
            weights = part.soft_scaled(term, excluded).softmax(dim=1)
        elif term.targets == "labels":
            weights = part.positives().to(anchors.dtype)
            weights /= weights.sum(dim=1, keepdim=True)
        else:
            assert part.weights is not None
            weights = part.weights
        losses.append((weights * log_shares).sum() / -len(anchors))
    return losses


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
                losses = _plain(anchors, candidates, relation, [one.term for one in sums])
                inputs = [x for x, needed in zip((anchors, *candidates), wanted, strict=True) if needed]
                found = iter(torch.autograd.grad(losses, inputs, grads, create_graph=True))
                return None, None, *(next(found) if needed else None for needed in wanted)
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
                    by_candidates[0][: len(anchors)].addcmul_(anchors, factor, value=-1)
                elif by_candidates[0] is not None:
                    by_candidates[0].index_add_(0, relation.own, anchors * factor, alpha=-1)
        return None, None, by_anchors, *by_candidates


def _blocked(relation: Relation, terms: Sequence[Contrast], anchors: Tensor, *candidates: Tensor) -> tuple[Tensor, ...]:
    return _Blocked.apply(relation, terms, anchors, *candidates)  # type: ignore[no-any-return]


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
    return candidates[0][: len(anchors)] if relation.own is None else candidates[0][relation.own]


def _log_add(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else torch.logaddexp(a, b)
