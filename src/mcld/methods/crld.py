"""Cross-view consistency regularisation for knowledge distillation (CRLD)."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod, Pair, kl_rows
from mcld.options import NonNegative, Rule, Temperature
from mcld.registry import register_method

Confidence = Annotated[float, Rule(lambda x: 0 <= x <= 1, "a probability, from 0 to 1")]


@register_method("crld")
class CRLD(LogitMethod):
    """KD within and across a weak and a strong view, where the teacher is sure enough (Zhang et al. 2024).

    With l(S, T) = T² · KL(teacher ‖ student) of an image at temperature T, and two views w and s of it, the terms are

    - ``within``: within · [max p(T_w) ≥ weak_confidence] · (l(S_w, T_w) + l(S_s, T_s));
    - ``across``: across · [max p(T_s) ≥ strong_confidence] · (l(S_s, T_w) + l(S_w, T_s));
    - ``ce_strong``: cross-entropy of the second view, which both views get; the training loop adds that of the first;

    averaged over all images of the batch, those left out included. The teacher's largest probability is that at
    temperature 1, whatever T (Cross-View Consistency Regularisation for Knowledge Distillation, ACM MM 2024; formulas
    and settings are those of the authors' code, as kept in the repositories of CRLD and of DeepKD).

    The second view, a strongly augmented one (``second_policy``), comes in ``Outputs.other`` of both networks; without
    it there is ``within`` alone, of one view.

    Args:
        temperature: T > 0.
        within: weight of KD in each view, at least 0.
        across: weight of KD across the views, at least 0.
        weak_confidence: how sure the teacher must be of the first view, from 0 to 1, for ``within``.
        strong_confidence: how sure the teacher must be of the second view, from 0 to 1, for ``across``.
        strong_ce_weight: of ``ce_strong``, at least 0; the loop's own cross-entropy has the same by default.

    Raises:
        InputError: for an option out of range, or a second view of one network only.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> teacher = 1000 * torch.eye(2)  # certain at any temperature; the student has 1/2 everywhere
        >>> terms = create_method("crld", within=1)(torch.zeros(2, 2), teacher, torch.tensor([0, 1]))
        >>> round(terms["within"].item(), 4)  # 4² log 2
        11.0904
        >>> unsure = create_method("crld", within=1)(teacher, torch.zeros(2, 2), torch.tensor([0, 1]))
        >>> unsure["within"].item()
        0.0
    """

    title = "KD within and across a weak and a strong view, where the teacher is sure"
    paper = "Zhang, Liu, Cai, Ma, ACM MM 2024"
    year = 2024
    views = 2
    second_policy = "fixmatch"
    separate_views = True
    requires_global_batch = False
    task_terms = frozenset({"ce_strong"})
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "imagenet": {"temperature": 1.0, "strong_ce_weight": 2.0},
    }
    preset_ce_weights = {"imagenet": 2.0}  # noqa: RUF012 - declared as a ClassVar in Method

    temperature: Temperature = 4.0
    within: NonNegative = 2.0
    across: NonNegative = 0.5
    weak_confidence: Confidence = 0.9
    strong_confidence: Confidence = 0.2
    strong_ce_weight: NonNegative = 1.0

    def view_terms(self, pairs: Sequence[Pair], labels: Tensor, progress: float) -> Terms:
        """Return ``within`` and, with two views, ``across`` and ``ce_strong``."""
        ready = [self.ready(*pair) for pair in pairs]
        sure = [
            _confidence(self.ready(*pair, standardize=False)[1]) >= least
            for pair, least in zip(pairs, (self.weak_confidence, self.strong_confidence), strict=False)
        ]
        logs = [[F.log_softmax(x / self.temperature, dim=1) for x in pair] for pair in ready]
        within = torch.stack([self._kl(log_q, log_p) for log_q, log_p in logs]).sum(dim=0)
        terms = {"within": self.within * (within * sure[0]).mean()}
        if len(pairs) == 2:
            (weak_q, weak_p), (strong_q, strong_p) = logs
            across = self._kl(strong_q, weak_p) + self._kl(weak_q, strong_p)
            terms["across"] = self.across * (across * sure[1]).mean()
            strong, _ = self.ready(*pairs[1], standardize=False)
            terms["ce_strong"] = self.strong_ce_weight * F.cross_entropy(strong, labels)
        return terms

    def _kl(self, log_q: Tensor, log_p: Tensor) -> Tensor:
        """T² · KL of each image, (B,)."""
        return self.temperature**2 * kl_rows(log_q, log_p)


def _confidence(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1).amax(dim=1)
