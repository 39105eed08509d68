import math

import pytest
import torch
import torch.nn.functional as F

from mcld.evaluation.calibration import COLDEST, HOTTEST, calibration_error, fit_temperature


def sharpened(temperature: float, images: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose labels were drawn from their softmax, then multiplied: ``temperature`` makes up for it."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(images, 10, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_the_temperature_that_made_the_probabilities_wrong_is_found(temperature: float) -> None:
    logits, labels = sharpened(temperature)
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature, rel=0.02)
    assert calibration_error(logits / fitted, labels) < 0.015
    if temperature != 1:
        assert calibration_error(logits, labels) > 0.1


def test_it_is_the_least_cross_entropy() -> None:
    logits, labels = sharpened(2.0, images=300)
    best = fit_temperature(logits, labels)
    losses = [float(F.cross_entropy(logits.double() / (best * factor), labels)) for factor in (0.999, 1.0, 1.001)]
    assert losses[1] == min(losses)


def test_a_constant_in_a_row_changes_nothing() -> None:
    logits, labels = sharpened(2.0, images=300)
    logits = logits.double()
    assert fit_temperature(logits + 100 * torch.arange(300)[:, None], labels) == pytest.approx(
        fit_temperature(logits, labels)
    )


def test_without_a_best_temperature_it_stays_in_bounds() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    assert fit_temperature(logits, torch.tensor([0, 1])) == COLDEST  # all right: the colder, the better
    assert fit_temperature(logits, torch.tensor([1, 0])) == HOTTEST
    assert fit_temperature(torch.zeros(3, 4), torch.tensor([0, 1, 2])) == 1.0
    assert math.isfinite(fit_temperature(1e4 * logits, torch.tensor([0, 0])))
