"""What is minimised in one step."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcld.distributed import gather_rows
from mcld.features import Features
from mcld.methods import Method, Outputs, Terms


class Objective(nn.Module):
    """The student and the method as one module, so that a data-parallel wrapper sees every parameter that is trained.

    Args:
        student: from images to logits.
        method: the distillation method.
        ce_weight: the weight of cross-entropy; at 0 it is not computed.
        label_smoothing: of the cross-entropy, in [0, 1).
        features: what else the method reads from the student; by default nothing.
    """

    def __init__(
        self,
        student: nn.Module,
        method: Method,
        *,
        ce_weight: float,
        label_smoothing: float = 0.0,
        features: Features | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.features = features or Features(student)
        self.method = method
        self.ce_weight = ce_weight
        self.label_smoothing = label_smoothing

    def forward(
        self, images: Tensor, labels: Tensor, index: Tensor, teacher: Outputs | None, progress: float
    ) -> tuple[Terms, Tensor]:
        """Return the named terms, cross-entropy first, and the student's logits (B, C).

        Of two views (B, 2, channels, H, W) the first counts for cross-entropy and for the logits.
        """
        student = self.features(images)
        logits = student.logits
        terms: Terms = {}
        if self.ce_weight > 0:
            terms["ce"] = self.ce_weight * F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if teacher is not None:
            if self.method.requires_global_batch:
                # Every rank computes the whole joined loss: the backward pass of the gather sums the ranks' equal
                # gradients and data parallelism divides by their number, which leaves the joined batch's gradient.
                student, teacher = gather_outputs(student), gather_outputs(teacher)
                labels, index = gather_rows(labels), gather_rows(index)
            terms.update(self.method(student, teacher, labels, progress, index))
        return terms, logits.detach()


def gather_outputs(outputs: Outputs) -> Outputs:
    """The outputs of all ranks, in rank order, with gradient; see :func:`mcld.distributed.gather_rows`."""
    return Outputs(
        gather_rows(outputs.logits),
        None if outputs.pooled is None else gather_rows(outputs.pooled),
        tuple(gather_rows(maps) for maps in outputs.maps),
        outputs.classifier,  # parameters: the same on all ranks
        None if outputs.other is None else gather_outputs(outputs.other),
    )


class TermMeter:
    """Running means of the loss terms, and a watch for the first bad value, kept on the device.

    Adding a step never waits for an accelerator; :meth:`first_bad` and :meth:`means` do.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.names: list[str] = []
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.clear()

    def clear(self) -> None:
        """Start a new epoch."""
        self.images = 0
        self.sums = torch.zeros(len(self.names), dtype=self.dtype, device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self.bad_step = torch.full((len(self.names),), -1, dtype=torch.int64, device=self.device)

    def add(self, terms: Terms, logits: Tensor, labels: Tensor, step: int) -> None:
        """Count one step: its terms are weighted by its number of images."""
        if not self.names:
            self.names = list(terms)
            self.clear()
        values = torch.stack([terms[name].detach().to(self.dtype) for name in self.names])
        count = labels.shape[0]
        self.images += count
        self.sums += values * count
        self.correct += (logits.argmax(dim=1) == labels).sum()
        new = (self.bad_step < 0) & ~torch.isfinite(values)
        self.bad_step = torch.where(new, step, self.bad_step)

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
        self.clear()
        self.images, self.sums, self.correct = images, sums.to(self.device), correct.to(self.device)
