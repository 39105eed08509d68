"""The contrastive kernel: InfoNCE terms that share one matrix of products, which need not exist as a whole.

Three forms give the same numbers. ``plain`` is written in differentiable operations on the matrix, for compilers and
higher derivatives. ``full`` has the gradient written out and keeps the matrix of each term's derivatives: the fastest
where matrices are small. ``blocked`` goes through anchors and candidates block by block with running log-sum-exps,
keeps one or two numbers per anchor and term, and computes the products once more in the backward pass: its memory grows
with n + N, not with n · N.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from mcld.contrast.blocks import blocked
from mcld.contrast.matrix import full, plain
from mcld.contrast.parts import Contrast, Relation
from mcld.rows import no_autocast

__all__ = ["FORMS", "Contrast", "Relation", "contrast", "fits_full", "force_form"]

FULL = {"cpu": 2**22, "cuda": 2**25}
"""Products (n · N) up to which the matrix is held as a whole, by the kind of device; others are taken as ``cpu``.

On a CPU where the two take equally long (``benchmarks/loss_scale.py --switch``). On an H200 blocks never caught up: at
4,096² and at 21,841² products they took 3.0 and 2.4 times as long as the whole matrix (2026-11-26). The bound there is
memory: 2²⁵ products are about 1 GB, those of 21,841 classes 6 GB, against 0.5 in blocks."""
FORMS = ("plain", "full", "blocked")

_forced: str | None = None


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
    (in the plain form, with its memory). Forward-mode derivatives and ``torch.func`` work in the plain form alone.

    Args:
        anchors: (n, d), float32 or float64.
        candidates: pieces of (N, d), in the same dtype; without ``own`` the first holds at least n rows.
        relation: of anchors and candidates. Every anchor has at least one candidate that counts, its targets do.
        terms: at least one.
    """
    small = fits_full(len(anchors), sum(map(len, candidates)), anchors.device)
    compiled = torch.compiler.is_compiling()
    learnt = relation.weights is not None and relation.weights.requires_grad
    if _forced == "plain" or learnt or (small and compiled):
        with no_autocast(anchors):
            return plain(anchors, candidates, relation, terms)
    if compiled:
        from mcld.contrast._uncompiled import call  # here: it imports the compiler, which takes a second

        return list(call(blocked, relation, terms, anchors, *candidates))
    return list((full if small else blocked)(relation, terms, anchors, *candidates))


def fits_full(n: int, N: int, device: torch.device) -> bool:
    """Whether n anchors and N candidates on a device are contrasted in the form ``full``."""
    return n * N <= FULL.get(device.type, FULL["cpu"]) if _forced is None else _forced == "full"
