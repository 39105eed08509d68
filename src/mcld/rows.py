"""Rows of numbers: at which precision to compute with them, and their direction."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def unit_rows(x: Tensor, center: bool = True) -> Tensor:
    """Subtract each row's mean and divide by its L2 norm.

    A row that is constant after centring has no direction (without centring, that is a row of zeros): it becomes a zero
    row, and no gradient flows to it. Constant means that no element departs from the mean by more than two rounding
    steps of the row's largest magnitude, in the dtype of ``x``, so that rounding noise does not turn into a random
    direction of full length. In bfloat16 a row needs a spread of 1/64 of its magnitude.

    Args:
        x: (n, d) or (k, n, d), any finite values.
        center: whether to subtract the mean, which softmax does not see either.

    Returns:
        The same shape, float32 for half-precision input, else the dtype of ``x``.

    Example:
        >>> import torch
        >>> from mcld.rows import unit_rows
        >>> unit_rows(torch.tensor([[1.0, 3.0], [7.0, 7.0]]))
        tensor([[-0.7071,  0.7071],
                [ 0.0000,  0.0000]])
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), center=False)
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    (rows,) = at_least_float32(x)
    step = constant_step(x)
    if torch.compiler.is_compiling():
        return differentiable_unit_rows(rows, center, step)
    if torch.is_grad_enabled() and x.requires_grad:
        unit: Tensor = _UnitRows.apply(rows, center, step)
        return unit
    return unit_and_scale(rows, center, step)[0]


def constant_step(x: Tensor) -> float:
    """How far the elements of a constant row may be from their mean, as a share of the largest magnitude."""
    return 2 * torch.finfo(x.dtype).eps


def unit_and_scale(x: Tensor, center: bool, step: float) -> tuple[Tensor, Tensor]:
    """Unit rows, and 1 / (norm of the centred row) as (..., n, 1); both 0 for constant rows. Not differentiable.

    Args:
        x: (..., n, d), float32 or float64.
        center: whether to subtract the mean.
        step: as :func:`constant_step` says of the numbers as they came.
    """
    # A unit row does not depend on its scale; dividing by the largest magnitude keeps the squares in range.
    largest = _magnitude(x)
    rows = x / largest
    if center:
        rows.sub_(rows.mean(dim=-1, keepdim=True))
    constant = _largest(rows) <= step
    inverse = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).reciprocal_().masked_fill_(constant, 0.0)
    return rows.mul_(inverse), inverse.div_(largest)


def unit_rows_gradient(grad: Tensor, unit: Tensor, scale: Tensor, center: bool) -> Tensor:
    """The gradient by the rows, from that by the unit rows and what :func:`unit_and_scale` returned."""
    # Neither a change along the row nor one of its mean changes the unit row.
    along = torch.linalg.vecdot(unit, grad, dim=-1).unsqueeze(-1)
    out = torch.addcmul(grad, unit, along, value=-1)
    if center:
        out.sub_(grad.mean(dim=-1, keepdim=True))
    return out.mul_(scale)


def _magnitude(x: Tensor) -> Tensor:
    """The largest magnitude of each row, but no less than what the inverse of the smallest difference can be of."""
    number = torch.finfo(x.dtype)
    return _largest(x).clamp_(min=number.tiny / number.eps)


def _largest(x: Tensor) -> Tensor:
    return x.abs().amax(dim=-1, keepdim=True)  # several times faster than the norm of order infinity


def differentiable_unit_rows(x: Tensor, center: bool, step: float) -> Tensor:
    """:func:`unit_rows` in few operations that can be compiled, and differentiated more than once; holds more memory.

    Arguments as those of :func:`unit_and_scale`.
    """
    tiny = torch.finfo(x.dtype).tiny
    rows = x / _magnitude(x.detach())
    if center:
        rows = rows - rows.detach().mean(dim=-1, keepdim=True)  # normalisation does not see it, but it stays precise
    # A constant row becomes something finite here, and is multiplied by 0 then, as is its gradient.
    varies = (_largest(rows.detach()) > step).to(x.dtype)
    if center:
        d = x.shape[-1]
        return F.layer_norm(rows, (d,), eps=tiny) * varies.mul_(d**-0.5)
    return F.normalize(rows, dim=-1, eps=tiny) * varies


class _UnitRows(torch.autograd.Function):
    """Unit rows with their gradient written out: a third of the operations, and one matrix kept instead of three."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, center: bool, step: float) -> Tensor:
        unit, scale = unit_and_scale(x, center, step)
        ctx.save_for_backward(x, unit, scale)
        ctx.options = center, step
        return unit

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, unit, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            return (
                *torch.autograd.grad(differentiable_unit_rows(x, *ctx.options), x, grad, create_graph=True),
                None,
                None,
            )
        return unit_rows_gradient(grad, unit, scale, ctx.options[0]), None, None


def at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Floating-point tensors in their common dtype, or in float32 where that is half precision."""
    double = any(tensor.dtype is torch.float64 for tensor in tensors)
    return tuple(tensor.to(torch.float64 if double else torch.float32) for tensor in tensors)


def no_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Products at the precision of their factors, also inside an autocast region: cosines divided by 0.1 need it."""
    kind = like.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()
