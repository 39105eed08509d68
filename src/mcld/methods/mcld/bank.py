"""Earlier teacher logits, as further candidates for the contrastive terms."""

from typing import TypeAlias

import torch
from torch import Tensor, nn

from mcld.checks import check_row_integers
from mcld.errors import InputError
from mcld.rows import unit_rows

BankState: TypeAlias = dict[str, Tensor | None]
TENSORS = ("logits", "labels", "index", "position")


class CandidateBank(nn.Module):
    """A ring buffer of teacher logits with their labels and indices, or a fixed set of them.

    The teacher is frozen, so stored logits are as good as new ones. The tensors get their width at the first
    :meth:`extend` or :meth:`fill`. A ring buffer has its full length from then on, so that shapes stay the same
    from step to step; a row that is still empty has the label −1. What it holds is part of its state dict, unless it is
    said to be filled anew by whoever loads that.

    Args:
        size: rows of the ring buffer, at least 0; with 0, only :meth:`fill` puts rows into it.
        saved: whether the rows are part of the state dict.

    Attributes:
        logits: (rows, C), or None before the first use.
        labels: (rows,) int64; −1 for an empty row.
        index: (rows,) int64, positions of the images in the training set; −1 for unknown.
        fixed: whether :meth:`fill` has set the rows; a fixed bank takes no more.

    Raises:
        InputError: for a size that is no integer of at least 0.

    Example:
        >>> import torch
        >>> from mcld.methods.mcld.bank import CandidateBank
        >>> bank = CandidateBank(3)
        >>> labels = torch.tensor([0, 1])
        >>> bank.extend(torch.zeros(2, 5), labels, index=torch.tensor([0, 1]))
        >>> bank.extend(torch.ones(2, 5), labels, index=torch.tensor([2, 3]))
        >>> bank.index.tolist()  # the fourth row has overwritten the first
        [3, 1, 2]
    """

    def __init__(self, size: int, *, saved: bool = True) -> None:
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise InputError(f"bank is {size!r}; expected a number of rows, at least 0")
        self.size = size
        self.saved = saved
        self.fixed = False
        # No buffers: data parallelism would broadcast them in every step, though all ranks hold the same rows.
        self.logits: Tensor | None = None
        self.labels: Tensor | None = None
        self.index: Tensor | None = None
        self.position: Tensor | None = None
        self._units: tuple[Tensor, bool, Tensor] | None = None

    @torch.no_grad()
    def extend(self, logits: Tensor, labels: Tensor, index: Tensor | None = None) -> None:
        """Put the newest rows in place of the oldest; of more rows than the bank has, the last ones count.

        Args:
            logits: (n, C) of the teacher.
            labels: (n,).
            index: (n,) positions in the training set; None for unknown.

        Raises:
            InputError: when the bank is fixed, or for shapes that do not fit.
        """
        if self.fixed:
            raise InputError("the bank is filled with a fixed set; expected no further rows")
        logits, labels, index = _check(logits, labels, index)
        self.check_classes(logits.shape[1])
        if self.size == 0:
            return
        self._move(logits.device)
        if self.logits is None or self.labels is None or self.index is None or self.position is None:
            self.logits = logits.new_zeros(self.size, logits.shape[1])
            self.labels = labels.new_full((self.size,), -1)
            self.index = index.new_full((self.size,), -1)
            self.position = labels.new_zeros(())
        n = min(len(labels), self.size)
        # The position stays on the device: reading it would make an accelerator wait, and torch.compile start anew.
        rows = (self.position + torch.arange(n, device=labels.device)) % self.size
        self.logits.index_copy_(0, rows, logits[-n:].to(self.logits.dtype))
        self.labels.index_copy_(0, rows, labels[-n:])
        self.index.index_copy_(0, rows, index[-n:])
        self.position.copy_((self.position + n) % self.size)

    @torch.no_grad()
    def fill(self, logits: Tensor, labels: Tensor, index: Tensor | None = None) -> None:
        """Hold exactly these rows from now on, such as the teacher's logits of the whole training set.

        Args:
            logits: (n, C) of the teacher, n ≥ 1.
            labels: (n,).
            index: (n,) positions in the training set; None for unknown.

        Raises:
            InputError: for shapes that do not fit.
        """
        logits, labels, index = _check(logits, labels, index)
        self.logits, self.labels, self.index = logits.clone(), labels.clone(), index.clone()
        self.position = None
        self.fixed = True

    def rows(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor] | None:
        """Logits, labels and index on a device (they stay there from now on), or None before the first use."""
        self._move(device)
        if self.logits is None or self.labels is None or self.index is None:
            return None
        return self.logits, self.labels, self.index

    @torch.no_grad()
    def unit_rows(self, center: bool) -> Tensor:
        """The stored logits as unit rows (:func:`mcld.rows.unit_rows`); those of a fixed set are computed once."""
        assert self.logits is not None
        if not self.fixed:
            return unit_rows(self.logits, center)
        if self._units is None or self._units[0] is not self.logits or self._units[1] != center:
            self._units = self.logits, center, unit_rows(self.logits, center)
        return self._units[2]

    def _move(self, device: torch.device) -> None:
        for name in TENSORS:
            value = getattr(self, name)
            if value is not None and value.device != device:
                setattr(self, name, value.to(device))

    def check_classes(self, classes: int) -> None:
        """Refuse logits of another width than those in the bank.

        Raises:
            InputError: naming both.
        """
        if self.logits is not None and self.logits.shape[1] != classes:
            raise InputError(
                f"logits have {classes} classes and the bank {self.logits.shape[1]}; expected the same classes"
            )

    def extra_repr(self) -> str:
        """What it holds, for printing."""
        return f"size={self.size}, fixed={self.fixed}"

    def get_extra_state(self) -> BankState:
        """The rows, as plain tensors that load with ``weights_only=True``; nothing of a bank that is not saved."""
        if not self.saved:
            return {}
        state: BankState = {name: getattr(self, name) for name in TENSORS}
        # Copies, as tensors of a state dict taken now must not change when training goes on.
        state = {name: None if value is None else value.detach().clone() for name, value in state.items()}
        return {**state, "fixed": torch.tensor(self.fixed)}

    def set_extra_state(self, state: BankState) -> None:
        """Take over the rows of :meth:`get_extra_state`; a bank that is not saved keeps its own.

        Raises:
            InputError: when they come from a ring buffer of another size.
        """
        if not self.saved:
            return
        fixed, rows = state["fixed"], state["labels"]
        is_fixed = fixed is not None and bool(fixed)
        if rows is not None and not is_fixed and len(rows) != self.size:
            raise InputError(f"the saved bank has {len(rows)} rows; expected {self.size}")
        self.fixed = is_fixed
        for name in TENSORS:
            value = state[name]
            setattr(self, name, None if value is None else value.clone())


def _check(logits: Tensor, labels: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    if logits.ndim != 2 or logits.shape[0] == 0 or not logits.is_floating_point():
        given = f"{logits.dtype} of shape {tuple(logits.shape)}"
        raise InputError(f"bank logits are {given}; expected floating point (n, C) with n at least 1")
    index = torch.full_like(labels, -1, dtype=torch.int64) if index is None else index
    for name, values in (("labels", labels), ("index", index)):
        check_row_integers(f"bank {name}", values, logits.shape[0])
    return logits.detach(), labels.to(torch.int64), index.to(torch.int64)
