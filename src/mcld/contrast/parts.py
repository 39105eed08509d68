"""What is contrasted, as data, and the products of anchors with some candidates."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


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


_TENSOR = object()


def flatten_relation(relation: Relation) -> tuple[list[Tensor], list[Any]]:
    """A relation's tensors, which autograd can watch over and let go of, and what is left of it without them."""
    tensors: list[Tensor] = []

    def left(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensors.append(value)
            return _TENSOR
        return [left(one) for one in value] if isinstance(value, (tuple, list)) else value

    return tensors, [left(value) for value in relation]


def unflatten_relation(tensors: Iterable[Tensor], rest: Sequence[Any]) -> Relation:
    """The relation that :func:`flatten_relation` made these of."""
    taken = iter(tensors)

    def rebuilt(value: Any) -> Any:
        if value is _TENSOR:
            return next(taken)
        return [rebuilt(one) for one in value] if isinstance(value, list) else value

    return Relation(*(rebuilt(value) for value in rest))


class Part:
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
        self.rows = cut(candidates[piece], 0, inside)
        self.products = anchors @ self.rows.T
        place = slice(offset + inside.start, offset + inside.stop)
        self.diagonal = relation.first - place.start
        self.soft = None if relation.soft is None else relation.soft[0] @ cut(relation.soft[1][piece], 0, inside).T
        self.weights = None if relation.weights is None else cut(relation.weights, 1, place).to(anchors.dtype)
        self.left_out = None if relation.valid is None else ~cut(relation.valid, 0, place).unsqueeze(0)
        if relation.mask is not None:
            self.left_out = ~cut(relation.mask, 1, place)
        self.same: Tensor | None = None
        if relation.labels is not None:
            self.same = relation.labels[0].unsqueeze(1) == cut(relation.labels[1], 0, place)

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


def joined(pieces: Sequence[Tensor]) -> Tensor:
    """All rows; a single piece is not copied."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))


def cut(x: Tensor, dim: int, place: slice) -> Tensor:
    """``x`` from place.start to place.stop along a dimension; ``x`` itself, at no cost, where that is all of it."""
    width = place.stop - place.start
    return x if x.shape[dim] == width else x.narrow(dim, place.start, width)
