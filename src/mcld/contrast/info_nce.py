"""InfoNCE for callers who know nothing of the kernel: one term, its arguments checked."""

import torch
from torch import Tensor

from mcld.checks import check_options
from mcld.contrast import Contrast, Relation, contrast
from mcld.errors import InputError
from mcld.rows import at_least_float32


def info_nce(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    temperature: float,
) -> Tensor:
    r"""Contrast each anchor with all candidates (InfoNCE).

    With weights :math:`P` over the candidates and the set :math:`M_i` of candidates that count for anchor i,

    .. math:: \frac1n \sum_i -\sum_p P_{ip} \log \frac{\exp(\langle a_i, z_p\rangle / \tau)}
              {\sum_{j \in M_i} \exp(\langle a_i, z_j\rangle / \tau)}

    (van den Oord et al. 2018, arXiv 1807.03748, eq. 4; with several positives as in Khosla et al. 2020, arXiv
    2004.11362, eq. 2). The rows are taken as given; :func:`mcld.rows.unit_rows` makes the products cosines.
    Half-precision input is computed in float32, inside and outside autocast; float64 stays float64.

    Large matrices of products are never held as a whole: they are computed in blocks (:mod:`mcld.contrast`). The
    gradient can be differentiated again; forward-mode derivatives and ``torch.func`` are not for this function.

    Args:
        anchors: (n, d).
        candidates: (N, d).
        targets: (n, N) weights of at least 0, each row with sum 1; None: candidate i belongs to anchor i.
        mask: (n, N) bool, True for the candidates that count in the denominator; None: all.
        temperature: τ > 0.

    Returns:
        The mean over the anchors in nats, a scalar in float32 or float64. It is log N when all products are equal.

    Raises:
        InputError: for shapes, types or values that cannot be right. Values are not looked at under torch.compile.

    Example:
        >>> import torch
        >>> from mcld import info_nce
        >>> eye = torch.eye(2)
        >>> round(info_nce(eye, eye, temperature=1.0).item(), 4)  # log(1 + exp(-1))
        0.3133
        >>> round(info_nce(eye, eye.flip(0), temperature=1.0).item(), 4)  # log(1 + exp(1))
        1.3133
        >>> round(info_nce(eye, eye, mask=eye.bool(), temperature=1.0).item(), 4)  # each sees only its own
        0.0
    """
    _check_arguments(anchors, candidates, targets, mask, temperature)
    a, z = at_least_float32(anchors, candidates)
    term = Contrast(temperature, "own" if targets is None else "weights")
    return contrast(a, [z], Relation(weights=targets, mask=mask), [term])[0]


def _check_arguments(
    anchors: Tensor, candidates: Tensor, targets: Tensor | None, mask: Tensor | None, temperature: float
) -> None:
    for name, rows in (("anchors", anchors), ("candidates", candidates)):
        if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] == 0:
            raise InputError(f"{name} have shape {tuple(rows.shape)}; expected (rows, dimensions), neither of them 0")
        if not rows.is_floating_point():
            raise InputError(f"{name} are {rows.dtype}; expected floating point")
    n, d = anchors.shape
    N = candidates.shape[0]
    if candidates.shape[1] != d:
        raise InputError(f"anchors have {d} dimensions and candidates {candidates.shape[1]}; expected the same number")
    if targets is None and n > N:
        raise InputError(
            f"there are {n} anchors and {N} candidates; without targets, expected at least {n}, one for each"
        )
    if targets is not None:
        if targets.shape != (n, N):
            raise InputError(f"targets have shape {tuple(targets.shape)}; expected {(n, N)}, anchors by candidates")
        if not targets.is_floating_point():
            raise InputError(f"targets are {targets.dtype}; expected floating point, weights with row sums of 1")
    if mask is not None:
        if mask.shape != (n, N):
            raise InputError(f"mask has shape {tuple(mask.shape)}; expected {(n, N)}, anchors by candidates")
        if mask.dtype is not torch.bool:
            raise InputError(f"mask is {mask.dtype}; expected torch.bool, True for candidates that count")
    check_options(positive={"temperature": temperature})
    if not torch.compiler.is_compiling():
        _check_values(anchors, candidates, targets, mask)


def _check_values(anchors: Tensor, candidates: Tensor, targets: Tensor | None, mask: Tensor | None) -> None:
    for name, rows in (("anchors", anchors), ("candidates", candidates)):
        bad = int((~torch.isfinite(rows)).sum())
        if bad:
            raise InputError(f"{name} hold {bad} NaN or Inf values of {rows.numel()}; expected finite numbers")
    if targets is not None:
        if not bool((targets >= 0).all()):  # NaN is not at least 0 either
            raise InputError(f"targets hold the value {float(targets.min())}; expected weights of at least 0")
        (weights,) = at_least_float32(targets.detach())
        sums = weights.sum(dim=1)
        worst = int((sums - 1).abs().argmax())
        if abs(float(sums[worst]) - 1) > max(1e-4, 2 * torch.finfo(targets.dtype).eps):
            raise InputError(f"targets of anchor {worst} sum to {float(sums[worst]):.6g}; expected 1")
    if mask is not None:
        outside = ~mask.diagonal() if targets is None else ((targets > 0) & ~mask).any(dim=1)
        if bool(outside.any()):
            i = int(outside.nonzero()[0, 0])
            raise InputError(
                f"the target of anchor {i} is outside the mask; expected mask True wherever there is a target"
            )
