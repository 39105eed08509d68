"""Multi-level logit distillation (MLKD)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mcld.methods._base import Terms
from mcld.methods._logits import LogitMethod, Pair
from mcld.methods.kd import kd_total
from mcld.options import NonNegative, Positive, Temperature
from mcld.registry import register_method

MORE_TEMPERATURES = (3.0, 5.0, 2.0, 6.0)


def _lskd(weight: float) -> dict[str, float | bool]:
    return {"as_published": True, "standardize": True, "temperature": 2.0, "weight": weight}


def probabilities(logits: Tensor, temperatures: Sequence[float]) -> Tensor:
    """The softmax of logits (B, C) at k temperatures, (k, B, C)."""
    return torch.stack([logits / T for T in temperatures]).softmax(dim=2)


def relation_loss(q: Tensor, p: Tensor) -> Tensor:
    """‖P Pᵀ − Q Qᵀ‖² / n, summed over k: how the n rows of probabilities relate to one another.

    Args:
        q: of the student, (k, n, d).
        p: of the teacher, (k, n, d).
    """
    return (p @ p.mT - q @ q.mT).square().sum() / p.shape[1]


def share_up_to_median(x: Tensor) -> Tensor:
    """The share of the elements of x (n,) that are at most their median."""
    return (x <= x.quantile(0.5)).to(x.dtype).mean()


@register_method("mlkd")
class MLKD(LogitMethod):
    """Match images, the relations of images and the relations of classes, at five temperatures (Jin et al. 2023).

    The terms are sums over the temperatures T, 3, 5, 2 and 6 and over both views, each times the weight:

    - ``instance``: KD at that temperature (:func:`mcld.methods.kd.kd_loss`);
    - ``batch``: ‖P Pᵀ − Q Qᵀ‖² / B, with the probabilities P, Q (B, C) of teacher and student at that temperature;
    - ``class``: ‖Pᵀ P − Qᵀ Q‖² / C;
    - ``ce_strong``: cross-entropy of the second view, which both views get in the paper; the training loop adds that of
      the first.

    This is our reading of Jin, Wang and Lin, CVPR 2023. The second view, a strongly augmented one (``second_policy``),
    comes in ``Outputs.other`` of both networks; without it the terms have one view, and there is no ``ce_strong``.

    ``as_published`` computes what the authors' code computes, with which the published numbers were made (MLKD's, and
    those of LSKD). The two views go through the student one after the other, each normalised by its own batch, and the
    second is FixMatch's strong view: two operations at random strengths, and a square. The terms are

    - ``instance``: the first view's part is multiplied by m, the share of images on which the teacher's confidence is
      at most the batch's median, about 1/2 (a mask is applied to a loss that is already averaged); the second view's
      part takes temperatures 2 and 6 from the *first* view, without m;
    - ``batch``: the first view's part alone, times m;
    - ``class``: the first view's part alone, times the share of classes of which the summed probability is at most the
      median, about 1/2.

    Args:
        temperature: T > 0.
        weight: of the first three terms, > 0.
        strong_ce_weight: of ``ce_strong``, at least 0; the loop's own cross-entropy has the same by default.
        as_published: true or false; compute what the authors' code computes.
        standardize: true or false; give each row of logits mean 0 and standard deviation 1 first, for ``instance``
            alone, as LSKD does.

    Raises:
        InputError: for an option out of range, or a second view of one network only.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> teacher = 1000 * torch.eye(2)  # certain at any temperature; the student has 1/2 everywhere
        >>> terms = create_method("mlkd", weight=1)(torch.zeros(2, 2), teacher, torch.tensor([0, 1]))
        >>> round(terms["instance"].item(), 4)  # (4² + 3² + 5² + 2² + 6²) log 2
        62.3832
        >>> terms["batch"].item(), terms["class"].item()  # 5 temperatures, each 4 (1/2)² / 2
        (2.5, 2.5)
    """

    title = "match images, relations of images and relations of classes at five temperatures"
    paper = "Jin, Wang, Lin, CVPR 2023"
    year = 2023
    requires_global_batch = True
    task_terms = frozenset({"ce_strong"})
    views = 2
    second_policy = "rand"
    ce_weight = 0.1
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "published": {"as_published": True},
        "lskd": _lskd(9.0),
        "vgg13-vgg8-lskd": _lskd(6.0),
        "vgg13-MobileNetV2-lskd": _lskd(6.0),
        "resnet32x4-ShuffleV2-lskd": _lskd(6.0),
    }

    temperature: Temperature = 4.0
    weight: Positive = 0.9
    strong_ce_weight: NonNegative = 0.1
    as_published: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.separate_views = self.as_published
        if self.as_published:
            self.second_policy = "fixmatch"

    def view_terms(self, pairs: Sequence[Pair], labels: Tensor, progress: float) -> Terms:
        """Return ``instance``, ``batch``, ``class`` and, with two views, ``ce_strong``."""
        plain = [self.ready(*pair, standardize=False) for pair in pairs]
        ready = [self.ready(*pair) for pair in pairs]
        temperatures = (self.temperature, *MORE_TEMPERATURES)
        relations = [[probabilities(x, temperatures) for x in pair] for pair in plain]
        if self.as_published:
            certainty = plain[0][1].softmax(dim=1)
            m, of_classes = share_up_to_median(certainty.amax(dim=1)), share_up_to_median(certainty.sum(dim=0))
            instances = [m * kd_total(*ready[0], temperatures)]
            if len(ready) == 2:
                instances += [kd_total(*ready[1], temperatures[:3]), kd_total(*ready[0], temperatures[3:])]
            batches = [m * relation_loss(*relations[0])]
            classes = [of_classes * relation_loss(*(x.mT for x in relations[0]))]
        else:
            instances = [kd_total(*pair, temperatures) for pair in ready]
            batches = [relation_loss(*pair) for pair in relations]
            classes = [relation_loss(*(x.mT for x in pair)) for pair in relations]
        named = {"instance": instances, "batch": batches, "class": classes}
        terms = {name: self.weight * torch.stack(parts).sum() for name, parts in named.items()}
        if len(plain) == 2:
            terms["ce_strong"] = self.strong_ce_weight * F.cross_entropy(plain[1][0], labels)
        return terms
