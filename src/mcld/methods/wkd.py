"""Wasserstein distance for knowledge distillation, of logits (WKD-L)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Method, Outputs, Terms
from mcld.methods._features import check_outputs
from mcld.methods._logits import check_two_classes
from mcld.options import NonNegative, Positive, Rule, Temperature
from mcld.progress import at_most, cosine, factor
from mcld.registry import register_method
from mcld.rows import at_least_float32, no_autocast, unit_rows

LARGEST = 40.0  # exp(-40) in place of what is less: a cost beyond this many regularizations is never worth paying


def class_costs(weight: Tensor, sharpness: float) -> Tensor:
    """What it costs to take one class for another, (C, C): 1 − exp(−sharpness · (1 − cosine)) of their weights.

    Args:
        weight: (C, D), of the teacher's classifier: a vector for each class.
        sharpness: at least 0; at 0 the costs are 1 − cosine.

    Example:
        >>> import torch
        >>> from mcld.methods.wkd import class_costs
        >>> class_costs(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]), sharpness=1)
        tensor([[0.0000, 0.6321, 0.0000],
                [0.6321, 0.0000, 0.6321],
                [0.0000, 0.6321, 0.0000]])
    """
    (weight,) = at_least_float32(weight)
    unit = unit_rows(weight, center=False)
    distance = (1 - unit @ unit.T).clamp(min=0.0)
    return distance if sharpness == 0 else 1 - (-sharpness * distance).exp()


def transport_cost(
    start: Tensor, q: Tensor, p: Tensor, costs: Tensor, regularization: float, iterations: int
) -> Tensor:
    """The cost of turning the probabilities q into p, by Sinkhorn's algorithm, (B,).

    The plan diag(u) K diag(v), K = exp(−costs / regularization), after so many rounds of v = p / (Kᵀu), u = q / (Kv);
    each round makes the plan's columns sum to p and then its rows to q. A class of which q and p are 0 has no part.

    Args:
        start: (B, C), the first u.
        q: (B, C), from which; rows sum to 1, and may hold zeros.
        p: (B, C), to which.
        costs: (C, C), at least 0.
        regularization: > 0: the smaller, the nearer to the true distance, and the more rounds it takes.
        iterations: at least 1.
    """
    kernel = (-costs / regularization).clamp(min=-LARGEST).exp()
    u = v = start
    for _ in range(iterations):
        v = p / (u @ kernel)
        u = q / (v @ kernel.T)
    return (u * (v @ (kernel * costs).T)).sum(dim=1)


@register_method("wkd")
class WKD(Method):
    """Move probability between like classes cheaply: Wasserstein distance in place of KL (Lv et al. 2024).

    The terms are ``target``, −t_y · log s_y as in ``nkd``, with the probabilities of the label at temperature 1, and
    ``nontarget``, weight · decay times the cost (:func:`transport_cost`) of turning the student's probabilities among
    the other classes into the teacher's, both at temperature T (arXiv 2412.08139, WKD-L). What it costs to take one
    class for another comes from the teacher's own last layer (:func:`class_costs`), the choice ``fc`` of the authors'
    code. Their published numbers use 1 − linear CKA of the classes' training images in its place, from files.

    From ``decay_start`` on the weight falls to 0 as half a cosine: from epoch 150 of 240 in the authors' CIFAR-100
    recipe, from the beginning in their ImageNet one. Their code adds 1e-8 to both denominators of
    Sinkhorn's rounds; ours doesn't, and holds K at exp(-40) or more instead.

    Args:
        temperature: T > 0, of the other classes.
        weight: of ``nontarget``, at least 0; 25 to 600 as published.
        sharpness: of the costs, at least 0; 1 or 2 as published, 0 for 1 − cosine itself.
        regularization: of Sinkhorn's algorithm, > 0.
        iterations: of Sinkhorn's algorithm, 1 to 10,000.
        decay_start: share of training, from 0 to 1, after which the weight falls; 1 for never.

    Raises:
        InputError: for an option out of range, or fewer than two classes.

    Example:
        >>> import torch
        >>> from mcld.methods.wkd import transport_cost
        >>> costs = torch.tensor([[0.0, 0.2], [0.2, 0.0]])
        >>> q, p = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.6, 0.4]])  # 0.3 has to move, at 0.2 each
        >>> round(transport_cost(q, q, p, costs, regularization=0.05, iterations=100).item(), 3)
        0.06
    """

    title = "the cost of moving probability between classes, like ones cheaply"
    paper = "Lv, Yang, Li, NeurIPS 2024"
    year = 2024
    family = "logits"
    needs = frozenset({"logits", "classifier"})
    requires_global_batch = False
    target_terms = frozenset({"target"})
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "resnet32x4-resnet8x4": {"temperature": 8.0, "weight": 600.0},
        "wrn_40_2-ShuffleV1": {"temperature": 6.0, "weight": 200.0},
        "imagenet-resnet34-resnet18": {"temperature": 2.0, "weight": 30.0, "decay_start": 0.0},
        "imagenet-resnet50-MobileNetV1": {"temperature": 2.0, "weight": 25.0, "sharpness": 2.0, "decay_start": 0.0},
    }

    temperature: Temperature = 8.0
    weight: NonNegative = 600.0
    sharpness: NonNegative = 1.0
    regularization: Positive = 0.05
    iterations: Annotated[int, Rule(lambda x: 1 <= x <= 10_000, "an integer from 1 to 10000")] = 10
    decay_start: Annotated[float, Rule(lambda x: 0 <= x <= 1, "a share of training, from 0 to 1")] = 0.625

    @property
    def ramps(self) -> bool:
        """Where the weight falls."""
        return self.weight > 0 and self.decay_start < 1

    def decay(self, progress: float) -> float:
        """What the weight is multiplied by at this share of training."""
        if self.decay_start == 1:
            return 1.0
        left = at_most((1 - progress) / (1 - self.decay_start), 1.0)
        return factor(1 - cosine(left))

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """Return ``target`` and ``nontarget``; see :meth:`Method.forward`."""
        progress = self.known_progress(progress)
        s_out, t_out = check_outputs(self, student, teacher, labels)
        s, t = at_least_float32(s_out.logits, t_out.logits)
        check_two_classes(s)
        assert t_out.classifier is not None
        y = labels.to(torch.int64).unsqueeze(1)
        with no_autocast(s):
            costs = class_costs(t_out.classifier[0], self.sharpness).to(s.dtype)
            log_s, log_t = (F.log_softmax(x, dim=1).gather(1, y) for x in (s, t))
            q, p = ((x / self.temperature).scatter(1, y, -torch.inf).softmax(dim=1) for x in (s, t))
            start = torch.full_like(q, 1 / (q.shape[1] - 1)).scatter(1, y, 0.0)
            cost = transport_cost(start, q, p, costs, self.regularization, self.iterations).mean()
            return {"target": -(log_t.exp() * log_s).mean(), "nontarget": self.weight * self.decay(progress) * cost}
