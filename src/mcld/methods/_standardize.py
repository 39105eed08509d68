"""Logit standardisation (LSKD): a pre-processor that any method on logits can take."""

import torch
from torch import Tensor

from mcld.rows import at_least_float32


def standardize_rows(x: Tensor) -> Tensor:
    """Give each row mean 0 and standard deviation 1: (x − mean) / (std + 1e-7), with the unbiased std.

    Sun et al. 2024 (arXiv 2403.01427), algorithm 1: the student then need not match the teacher's shift and scale. A
    constant row becomes zeros and no gradient flows to it; constant means as in :func:`mcld.rows.unit_rows` that
    nothing departs from the mean by more than two rounding steps of the row's largest magnitude, in the dtype of ``x``.

    Args:
        x: (n, C), any finite values.

    Returns:
        (n, C), float32 for half-precision input, else the dtype of ``x``.

    Example:
        >>> import torch
        >>> from mcld.methods._standardize import standardize_rows
        >>> standardize_rows(torch.tensor([[1.0, 2.0, 3.0], [7.0, 7.0, 7.0]]))
        tensor([[-1.0000,  0.0000,  1.0000],
                [ 0.0000,  0.0000,  0.0000]])
    """
    (rows,) = at_least_float32(x)
    centred = rows - rows.mean(dim=1, keepdim=True)
    largest = rows.detach().abs().amax(dim=1, keepdim=True)
    constant = centred.detach().abs().amax(dim=1, keepdim=True) <= 2 * torch.finfo(x.dtype).eps * largest
    centred = centred.masked_fill(constant, 1.0)  # before the root, whose gradient at zero is infinite
    std = (centred.square().sum(dim=1, keepdim=True) / max(x.shape[1] - 1, 1)).sqrt()
    return (centred / (std + 1e-7)).masked_fill(constant, 0.0)
