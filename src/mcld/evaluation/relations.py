"""What a student's logits say of the relations of classes, beside its teacher's."""

import torch
from torch import Tensor


def correlation_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """How far apart the correlations between the classes' logits are, as in CRD's figure (Tian et al. 2020).

    The correlation of two classes is Pearson's, of their logits over the images. It does not depend on the scale of
    the logits, which methods are free to choose.

    Args:
        student: logits (N, C) of some images.
        teacher: logits (N, C) of the same images.

    Returns:
        (C, C), |student's correlation − teacher's|, from 0 to 2, with a zero diagonal. A class whose logit never
        changes correlates with nothing.

    Example:
        >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]])  # correlation −1
        >>> correlation_difference(teacher.flip(1) ** 2, teacher)[0, 1] > 0.5
        tensor(True)
        >>> correlation_difference(3 * teacher + 1, teacher).max() < 1e-6
        tensor(True)
    """
    return (_correlations(student) - _correlations(teacher)).abs().fill_diagonal_(0)


def _correlations(logits: Tensor) -> Tensor:
    centred = logits.double() - logits.double().mean(dim=0)
    unit = torch.nn.functional.normalize(centred, dim=0)
    return unit.T @ unit
