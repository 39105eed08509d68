"""What is watched during training: means of the loss terms, and the first bad value."""

import torch
from torch import Tensor

from mcld.methods import Terms


class TermMeter:
    """Running means of the loss terms, and a watch for the first bad value, kept on the device.

    Adding a step never waits for an accelerator; :meth:`first_bad` and :meth:`means` do.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.names: list[str] = []
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.images = 0
        self._make()

    def clear(self) -> None:
        """Start a new epoch; the tensors stay where they are."""
        self.images = 0
        if len(self.names) == len(self.sums):
            self.sums.zero_()
            self.correct.zero_()
            self.bad_step.fill_(-1)
        else:
            self._make()

    def _make(self) -> None:
        self.sums = torch.zeros(len(self.names), dtype=self.dtype, device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self.bad_step = torch.full((len(self.names),), -1, dtype=torch.int64, device=self.device)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that :meth:`update` changes, in place."""
        return self.sums, self.correct, self.bad_step

    def add(self, terms: Terms, logits: Tensor, labels: Tensor, step: int) -> None:
        """Count one step: its terms are weighted by its number of images."""
        if not self.names:
            self.names = list(terms)
            self._make()
        self.images += labels.shape[0]
        self.update(terms, logits, labels, step)

    def update(self, terms: Terms, logits: Tensor, labels: Tensor, step: int | Tensor) -> None:
        """What of :meth:`add` is on the device; the images are then to be counted beside it."""
        values = torch.stack([terms[name].detach().to(self.dtype) for name in self.names])
        self.sums += values * labels.shape[0]
        self.correct += (logits.argmax(dim=1) == labels).sum()
        new = (self.bad_step < 0) & ~torch.isfinite(values)
        self.bad_step.copy_(torch.where(new, step, self.bad_step))

    def first_bad(self) -> tuple[str, int] | None:
        """The first term that was NaN or Inf, and its step."""
        steps = self.bad_step.tolist()
        bad = [(step, name) for name, step in zip(self.names, steps, strict=True) if step >= 0]
        return (min(bad)[1], min(bad)[0]) if bad else None

    def means(self) -> dict[str, float]:
        """The mean of each term over the images so far."""
        return {name: value / max(self.images, 1) for name, value in zip(self.names, self.sums.tolist(), strict=True)}

    def state_dict(self) -> dict[str, object]:
        """The state in the middle of an epoch."""
        return {"names": self.names, "images": self.images, "sums": self.sums.cpu(), "correct": self.correct.cpu()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from :meth:`state_dict`."""
        names, images, sums, correct = state["names"], state["images"], state["sums"], state["correct"]
        assert isinstance(names, list)
        assert isinstance(images, int)
        assert isinstance(sums, Tensor)
        assert isinstance(correct, Tensor)
        if sums.shape != (len(names),) or correct.shape != () or images < 0:
            raise ValueError("the means of its loss terms do not fit their names")
        self.names = names
        self._make()
        self.images, self.sums, self.correct = images, sums.to(self.device), correct.to(self.device)
