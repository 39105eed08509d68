"""Training on labels alone, the first thing to compare with."""

from torch import Tensor

from mcld.methods._base import Method, Outputs, Terms
from mcld.registry import register_method


@register_method("plain")
class Plain(Method):
    """No distillation: there are no terms, and cross-entropy is all that is left.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> create_method("plain")(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 1]))
        {}
    """

    title = "training on labels alone, without a teacher"
    needs = frozenset[str]()
    requires_global_batch = False

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """Return no terms. Nothing is looked at."""
        return {}
