"""SGD with a momentum of its own for each part of the loss: DOT and DeepKD.

The gradient of each part is taken by a backward pass of its own through the student: two for DOT, three for DeepKD, in
place of one. As a backward pass costs about twice a forward pass, a step of the student takes about 5/3 and 7/3 of the
time (measured: 1.8 and 2.45, resnet20 on a busy CPU), and for each part there is a copy of the parameters for momentum,
and one of the gradients. The teacher costs what it did.

DeepKD has a second part, a mask that at first leaves out all but the likeliest of the other classes. It is not here:
the released code masks a fixed number of classes, and how long the three phases of the paper last could not be found.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mcld.assembly.optimizer_options import Optimizer
from mcld.errors import InputError
from mcld.methods import Method, Terms

PARTED = ("dot", "deepkd")
"""The optimizers that want the gradients of the loss's parts apart."""


def part_momenta(settings: Optimizer) -> dict[str, float]:
    """The momentum of each part of the loss, in the order in which their gradients are taken.

    DOT (Zhao et al. 2023, ICCV): μ − Δ for the task (cross-entropy), μ + Δ for what the teacher says. DeepKD (Huang et
    al. 2025, arXiv 2505.15133, eq. 7 as a note on the paper gives it): μ + Δ for the task, μ − Δ for the label's class,
    μ + Δ for the other classes. DeepKD's released code gives the task the momentum of the label's class, though:
    ``optimizer.delta_task=-0.075`` is what it runs.

    Raises:
        InputError: for a momentum that would not be at least 0 and below 1.
    """
    d = settings.delta
    if settings.name == "dot":
        offsets = {"distillation": (d, settings.delta_distillation), "task": (-d, settings.delta_task)}
    else:
        offsets = {
            "nontarget": (d, settings.delta_distillation),
            "target": (-d, settings.delta_target),
            "task": (d, settings.delta_task),
        }
    momenta = {}
    for part, (usual, given) in offsets.items():
        momenta[part] = settings.momentum + (usual if given is None else given)
        if not 0 <= momenta[part] < 1:
            raise InputError(
                f"optimizer={settings.name} with optimizer.momentum={settings.momentum} gives the part '{part}' a "
                f"momentum of {momenta[part]:g}; expected at least 0 and below 1, by a smaller optimizer.delta"
            )
    return momenta


def check_parts(name: str, method: Method, ce_weight: float) -> None:
    """Check that there is something for each part.

    Raises:
        InputError: saying which part would be empty.
    """
    if not method.needs:
        raise InputError(f"optimizer={name} takes the teacher's part of the loss apart from the task's; there is none")
    if ce_weight == 0 and not method.task_terms:
        raise InputError(f"optimizer={name} takes the task's part of the loss apart; ce_weight=0 leaves it empty")
    if name == "deepkd" and not method.target_terms:
        raise InputError(
            "optimizer=deepkd takes what is said of the label's class apart from the rest; it has no such term; "
            "expected kd with method.decoupled=true, dkd, nkd, rld or wkd, or a combination with one of them"
        )


def loss_parts(terms: Terms, method: Method, names: Iterable[str]) -> dict[str, Tensor]:
    """The terms of a step, summed by part; a part without terms is left out.

    Args:
        terms: by name, cross-entropy under ``ce`` and ``ce_aux``.
        method: which says what its terms are about.
        names: of the parts, as in :func:`part_momenta`.
    """
    sums: dict[str, list[Tensor]] = {name: [] for name in names}
    rest = "distillation" if "distillation" in sums else "nontarget"
    for name, value in terms.items():
        task = name in ("ce", "ce_aux") or name in method.task_terms
        target = name in method.target_terms and "target" in sums
        sums["task" if task else "target" if target else rest].append(value)
    return {name: torch.stack(values).sum() for name, values in sums.items() if values}


class PartedSGD(torch.optim.Optimizer):
    """SGD that sums several steps with momentum, one for the gradient of each part of the loss.

    A parameter p changes by −lr · Σ_k b_k with b_k ← μ_k · b_k + g_k; the first b_k is g_k. Weight decay is added to
    the gradient of one part. A parameter that only one part has a gradient for (a projection of the method) has the
    mean of the momenta, as in the authors' codes of DOT and DeepKD.

    Args:
        params: parameters or groups of them.
        lr: the learning rate.
        momenta: of each part, by name.
        decayed: the part whose gradient weight decay is added to.
        weight_decay: at least 0.

    Example:
        >>> import torch
        >>> from mcld.assembly.parted import PartedSGD
        >>> p = torch.nn.Parameter(torch.tensor(1.0))
        >>> optimizer = PartedSGD([p], lr=0.1, momenta={"task": 0.5, "distillation": 0.9}, decayed="task")
        >>> for _ in range(2):
        ...     for part in optimizer.parts:
        ...         (p * 1.0).backward()
        ...         optimizer.take(part)
        ...     optimizer.step()
        >>> round(p.item(), 4)  # 1 - 0.1 (1 + 1) - 0.1 (1.5 + 1.9)
        0.46
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momenta: Mapping[str, float],
        decayed: str,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.momenta, self.decayed = dict(momenta), decayed
        self.taken: dict[str, dict[Tensor, Tensor]] = {}

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(self.momenta)

    def take(self, part: str) -> None:
        """Take the present gradients as those of a part; the parameters have none afterwards."""
        grads = {}
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    grads[p], p.grad = p.grad, None
        self.taken[part] = grads

    def average(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Replace the gradients taken by their means over the ranks, all at once.

        Args:
            reduce: the mean of a tensor over the ranks.
        """
        for grads in self.taken.values():
            flat = reduce(torch.cat([g.flatten() for g in grads.values()]))
            for p, g in zip(grads, torch.split(flat, [g.numel() for g in grads.values()]), strict=True):
                grads[p] = g.view_as(p)

    def clip(self, largest: float) -> None:
        """Multiply all parts alike so that the norm of their sum, the gradient of the loss, is at most this."""
        total: dict[Tensor, Tensor] = {}
        for grads in self.taken.values():
            for p, g in grads.items():
                total[p] = total[p] + g if p in total else g
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in total.values()]))
        factor = (largest / (norm + 1e-6)).clamp(max=1.0)
        for grads in self.taken.values():
            torch._foreach_mul_(list(grads.values()), factor)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closure's loss
        """Change the parameters by what was taken since the last step."""
        assert closure is None
        mean = sum(self.momenta.values()) / len(self.momenta)
        for group in self.param_groups:
            changes: list[tuple[list[Tensor], list[Tensor]]] = []
            for part, grads in self.taken.items():
                for alone in (False, True):
                    params = [p for p in group["params"] if p in grads and self._alone(p) is alone]
                    if params:
                        decay = group["weight_decay"] if alone or part == self.decayed else 0.0
                        momentum = mean if alone else self.momenta[part]
                        changes.append((params, self._buffers(part, params, momentum, decay)))
            for params, buffers in changes:  # not before all are known: weight decay reads the parameters
                torch._foreach_add_(params, buffers, alpha=-group["lr"])
        self.taken = {}

    def _alone(self, p: Tensor) -> bool:
        return sum(p in grads for grads in self.taken.values()) == 1

    def _buffers(self, part: str, params: list[Tensor], momentum: float, decay: float) -> list[Tensor]:
        """The part's momentum buffers, with its gradients added."""
        grads = [self.taken[part][p] for p in params]
        if decay:
            grads = list(torch._foreach_add(grads, params, alpha=decay))
        key = f"momentum_{part}"
        old = [(self.state[p][key], g) for p, g in zip(params, grads, strict=True) if key in self.state[p]]
        if old:
            buffers, news = (list(side) for side in zip(*old, strict=True))
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, news)
        for p, g in zip(params, grads, strict=True):
            if key not in self.state[p]:
                self.state[p][key] = g.clone()
        return [self.state[p][key] for p in params]
