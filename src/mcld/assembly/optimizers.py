"""The optimizer that the settings describe."""

from typing import Any

import torch
from torch import nn

from mcld.assembly.optimizer_options import FROM_TIMM, Optimizer
from mcld.assembly.parted import PARTED, PartedSGD, part_momenta
from mcld.models import default_lr
from mcld.options import OBJECT


def default_learning_rate(name: str, optimizer: Optimizer) -> float:
    """The architecture's learning rate in the field's SGD recipe, 0.05 for an object; 0.001 for AdamW and timm's.

    For Lion a tenth of that: its authors advise a third to a tenth of AdamW's (arXiv 2302.06675, section 5).
    """
    if optimizer.name == "adamw" or optimizer.name in FROM_TIMM:
        return 1e-4 if optimizer.name == "lion" else 1e-3
    return 0.05 if name.startswith(OBJECT) else default_lr(name)


def parameter_groups(settings: Optimizer, module: nn.Module) -> list[dict[str, Any]]:
    """The parameters of a module for the optimizer: those with weight decay, and perhaps those without.

    With ``decay_norms=false`` the second hold what has fewer than two dimensions (the weights of normalisation, biases)
    and what a network of timm exempts by its ``no_weight_decay`` (tokens, position embeddings).
    """
    named = dict(module.named_parameters())
    exempt: set[str] = set()
    if not settings.decay_norms:
        exempt = {name for name, parameter in named.items() if parameter.ndim < 2}
        for path, part in module.named_modules():
            listed = getattr(part, "no_weight_decay", None)
            if callable(listed):
                exempt |= {f"{path}.{name}".lstrip(".") for name in listed()}
    groups: list[dict[str, Any]] = [
        {"params": [parameter for name, parameter in named.items() if name not in exempt]},
        {"params": [parameter for name, parameter in named.items() if name in exempt], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def create_optimizer(settings: Optimizer, lr: float, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over the parameters of a module, which holds the student and the method."""
    parameters = parameter_groups(settings, module)
    if settings.name in PARTED:
        decayed = "task" if settings.name == "dot" else "target"
        return PartedSGD(parameters, lr, part_momenta(settings), decayed, settings.weight_decay)
    if settings.name in FROM_TIMM:
        from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]  # late: most runs do without

        # LAMB's own limit on the gradient is left out: optimizer.clip is ours for all of them.
        own: dict[str, Any] = {"max_grad_norm": None} if settings.name == "lamb" else {}
        return create_optimizer_v2(parameters, settings.name, lr=lr, weight_decay=settings.weight_decay, **own)
    fused = settings.fused is True or None  # None leaves it to PyTorch
    if settings.name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=settings.weight_decay, fused=fused)
    return torch.optim.SGD(
        parameters,
        lr=lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=fused,
    )
