"""Knowledge distillation with a temperature of each image (NormKD)."""

import math
from typing import Any

from torch import Tensor

from mcld.errors import InputError
from mcld.methods._base import Method
from mcld.methods._per_image import PerImage
from mcld.options import Temperature
from mcld.registry import register_method
from mcld.rows import at_least_float32, unit_rows


@register_method("normkd")
class NormKD(PerImage):
    """A method whose temperature is, for each image, the spread of its logits times a constant (Chi et al. 2023).

    With σ the standard deviation of an image's logits (unbiased, as the authors compute it), student and teacher each
    divide by their own σ times the temperature, and the image's loss is multiplied by the teacher's σ²: of KD that
    makes T_t² · KL(softmax(z_t / T_t) ‖ softmax(z_s / T_s)) with T = temperature · σ (NormKD: Normalized Logits for
    Knowledge Distillation, arXiv 2308.00520). The student's σ has a gradient, too, as in the authors' code.

    The paper gives KD and DKD, each at temperature 2; with other methods it is our reading. The logits are centred as
    well, which no softmax sees. An image whose logits are all equal counts as nothing: its spread is 0.

    Args:
        temperature: the constant, > 0; it is handed on to the other method as its temperature.
        of: the name of the other method: one that has a temperature, and treats each image by itself.
        options: of the other method; what is not named keeps its default.

    Raises:
        InputError: for an option out of range, or a method that cannot be wrapped.

    Example:
        >>> import torch
        >>> from mcld import create_method
        >>> method = create_method("normkd", temperature=1, options={"weight": 1})
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 4.0, 6.0]])
        >>> method(student, teacher, torch.tensor([2]))["kl"].abs().item() < 1e-6  # the same up to the scale
        True
    """

    title = "a method with a temperature for each image: the spread of its logits"
    paper = "Chi, Zheng, Li, Yang, Wu, Lin, Cai, 2023"
    year = 2023
    ce_weight = 0.1
    presets = {  # noqa: RUF012 - declared as a ClassVar in Method
        "imagenet": {"temperature": 1.0, "options": {"weight": 0.5}},
        "resnet56-resnet20-dkd": {"of": "dkd", "options": {"alpha": 7.0, "beta": 2.0}},
        "resnet110-resnet32-dkd": {"of": "dkd", "options": {"alpha": 5.0, "beta": 4.0}},
        "resnet32x4-resnet8x4-dkd": {"of": "dkd", "options": {"alpha": 4.0, "beta": 5.0}},
        "wrn_40_2-wrn_16_2-dkd": {"of": "dkd", "options": {"alpha": 4.0, "beta": 5.0}},
        "wrn_40_2-wrn_40_1-dkd": {"of": "dkd", "options": {"alpha": 3.0, "beta": 6.0}},
        "vgg13-vgg8-dkd": {"of": "dkd", "options": {"alpha": 2.0, "beta": 7.0}},
        "vgg13-MobileNetV2-dkd": {"of": "dkd", "options": {"alpha": 3.0, "beta": 6.0}},
        "ResNet50-MobileNetV2-dkd": {"of": "dkd", "options": {"alpha": 2.0, "beta": 7.0}},
        "resnet32x4-ShuffleV1-dkd": {"of": "dkd", "options": {"alpha": 0.5, "beta": 8.5}},
        "resnet32x4-ShuffleV2-dkd": {"of": "dkd", "options": {"alpha": 4.0, "beta": 5.0}},
        "wrn_40_2-ShuffleV1-dkd": {"of": "dkd", "options": {"alpha": 4.0, "beta": 5.0}},
    }
    preset_ce_weights = {"imagenet": 0.5}  # noqa: RUF012 - declared as a ClassVar in Method

    temperature: Temperature = 2.0

    def defaults(self, cls: type[Method]) -> dict[str, Any]:
        """Its own temperature, for a method that has one; see :meth:`PerImage.defaults`."""
        if "temperature" not in cls.option_names():
            raise InputError(f"of is {self.of!r}, which has no temperature; expected a method that has, such as 'kd'")
        if "temperature" in self.options:
            raise InputError(
                f"options holds a temperature; normkd expects it as its own: temperature={self.temperature}"
            )
        return {"temperature": self.temperature}

    def weigh(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of spread 1, and the teacher's variance; see :meth:`PerImage.weigh`."""
        (given,) = at_least_float32(teacher)
        n = max(teacher.shape[1] - 1, 1)
        # A unit row of centred logits has the spread 1 / sqrt(C - 1).
        s, t = (unit_rows(x) * math.sqrt(n) for x in (student, teacher))
        return s, t, given.var(dim=1, correction=0) * teacher.shape[1] / n
