"""Entropy-based adaptive knowledge distillation (EA-KD)."""

import math

import torch.nn.functional as F
from torch import Tensor

from mcld.methods._per_image import PerImage
from mcld.options import Temperature
from mcld.registry import register_method
from mcld.rows import at_least_float32


def entropy(logits: Tensor) -> Tensor:
    """The entropy of the softmax of each row, in nats, (B,)."""
    log_p = F.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


@register_method("eakd")
class EAKD(PerImage):
    """A method that listens most to the images of which the teacher is unsure (Su et al. 2023).

    Each image's loss is multiplied by ½ · H_T · (1 + H_S / log C), where H are the entropies of the two networks'
    probabilities at the temperature, and C is the number of classes (arXiv 2311.13621, equations of section 3 as a note
    on the paper gives them). The weight is a constant: no gradient flows through it.

    ``as_published`` divides H_S by C itself in place of log C, as the authors' code does on CIFAR-100 for KD and DKD,
    where it holds 100 for the bound; on ImageNet it has the logarithm.

    Args:
        temperature: of the entropies alone, > 0; 3 on CIFAR-100, 2 on ImageNet.
        as_published: true or false; divide by C in place of log C.
        of: the name of the other method: one that treats each image by itself, on logits alone.
        options: of the other method; what is not named keeps its default.

    Raises:
        InputError: for an option out of range, or a method that cannot be wrapped.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> teacher = torch.tensor([[3.0, 1.0]]).log()
        >>> terms = create_method("eakd", temperature=1, options={"temperature": 1, "weight": 1})(
        ...     torch.zeros(1, 2), teacher, torch.tensor([0])
        ... )
        >>> round(terms["kl"].item(), 4)  # 1/2 0.5623 (1 + 1) times 0.1308
        0.0736
    """

    title = "a method with a weight for each image: the entropy of teacher and student"
    paper = "Su, Tseng, Pu, Zhao, Yang, Chen, Lee, ICCV 2025"
    year = 2023
    ce_weight = 0.1
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "published": {"as_published": True},
        "published-dkd": {"of": "dkd", "as_published": True},
        "imagenet": {"temperature": 2.0, "options": {"temperature": 1.0, "weight": 0.5}},
        "imagenet-dkd": {"temperature": 2.0, "of": "dkd", "options": {"temperature": 1.0, "beta": 0.5, "warmup": 1.0}},
    }
    preset_ce_weights = {"published-dkd": 1.0, "imagenet": 1.0, "imagenet-dkd": 1.0}  # noqa: RUF012 - as above

    temperature: Temperature = 3.0
    as_published: bool = False

    def weigh(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The logits as they are, and the weights; see :meth:`PerImage.weigh`."""
        ours, theirs = (entropy(x.detach() / self.temperature) for x in at_least_float32(student, teacher))
        classes = student.shape[1]
        bound = float(classes) if self.as_published else math.log(max(classes, 2))
        return student, teacher, theirs * (1 + ours / bound) / 2
