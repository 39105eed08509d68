"""What may be said of the optimizer."""

from dataclasses import dataclass

FROM_TIMM = ("lamb", "lion", "adan", "adopt", "nadamw")
"""Optimizers of timm."""


@dataclass(frozen=True)
class Optimizer:
    """The optimizer.

    Attributes:
        name: ``sgd`` or ``adamw``; ``lamb``, ``lion``, ``adan``, ``adopt`` or ``nadamw`` of timm; ``dot`` and
            ``deepkd`` are SGD with a momentum of its own for the gradient of each part of the loss: what the labels
            say, and what the teacher says (``deepkd``: of the label's class, and of the others). A step takes a
            backward pass for each part.
        momentum: for ``sgd``, ``dot`` and ``deepkd``.
        nesterov: for ``sgd``.
        weight_decay: on all parameters, as in the field's recipe.
        decay_norms: false leaves normalisation, biases, tokens and position embeddings without weight decay.
        clip: the largest norm of the gradient; null for none, as in the field's recipes. The gradients of MCLD and DIST
            have norms of 40 to 3,100 at first: a limit of 5 keeps MobileNets from learning for epochs. It may save a
            run at a high learning rate whose first steps destroy the student.
        delta: for ``dot`` and ``deepkd``: how far the momenta of the parts are from ``momentum``.
        delta_task: for ``dot`` and ``deepkd``: the same for what the labels say, with its sign; by default -delta for
            ``dot`` and delta for ``deepkd``.
        delta_target: for ``deepkd``: the same for what the teacher says of the label's class; by default -delta.
        delta_distillation: for ``dot`` and ``deepkd``: the same for what else the teacher says; by default delta.
        fused: one pass over all parameters; ``auto`` where the device is known to gain.
    """

    name: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_norms: bool = True
    clip: float | None = None
    delta: float = 0.075
    delta_task: float | None = None
    delta_target: float | None = None
    delta_distillation: float | None = None
    fused: bool | str = "auto"
