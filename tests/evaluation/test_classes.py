import pytest
import torch
from sklearn.metrics import f1_score

from mcld.evaluation.classes import Evaluation


def found(labels: torch.Tensor, predicted: torch.Tensor, classes: int) -> Evaluation:
    names = [str(c) for c in range(classes)]
    return Evaluation(0.0, 0.0, 0.0, 0.0, None, len(labels), classes, 0.0, None, None, names, labels, predicted)


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 6, (40,), generator=generator) // 2 * 2  # classes 1, 3 and 5 do not occur
    predicted = torch.where(
        torch.rand(40, generator=generator) < 0.6, labels, torch.randint(0, 4, (40,), generator=generator)
    )
    assert found(labels, predicted, 8).macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
