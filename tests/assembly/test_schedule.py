import pytest

from mcld.assembly.schedule import SCHEDULES, Schedule, check_schedule, learning_rate_factor
from mcld.errors import InputError


def test_the_step_schedule_of_the_field_drops_after_150_180_and_210_of_240_epochs() -> None:
    def factor(epoch: int, steps: int = 782, step: int = 0) -> float:
        progress = (epoch * steps + step) / (240 * steps)
        return learning_rate_factor("step", progress, milestones=[0.625, 0.75, 0.875])

    assert factor(149, step=781) == 1
    assert factor(150) == pytest.approx(0.1)
    assert factor(180) == pytest.approx(0.01)
    assert factor(209, step=781) == pytest.approx(0.01)
    assert factor(210) == pytest.approx(0.001)


def test_one_cycle_is_that_of_torch() -> None:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    total = 1000
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=total + 1, final_div_factor=1e9)
    for step in range(total):
        # torch's peak lies half a step early or late of 0.3 of the run; ours is a function of progress alone
        assert learning_rate_factor("one_cycle", step / total) == pytest.approx(theirs.get_last_lr()[0], abs=0.01)
        optimizer.step()
        theirs.step()


def test_cosine_ends_at_nothing_and_warmup_starts_from_nothing() -> None:
    assert learning_rate_factor("cosine", 0.0) == 1
    assert learning_rate_factor("cosine", 1.0) == 0
    assert learning_rate_factor("constant", 0.05, warmup=0.1) == pytest.approx(0.5)
    assert learning_rate_factor("constant", 0.0, warmup=0.1) == 0
    assert learning_rate_factor("constant", 0.1, warmup=0.1) == 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_stays_between_nothing_and_the_peak(name: str) -> None:
    factors = [learning_rate_factor(name, i / 200, warmup=0.05, milestones=[0.5]) for i in range(201)]
    assert min(factors) >= 0
    assert 0.9 < max(factors) <= 1


@pytest.mark.parametrize(
    ("name", "warmup", "milestones", "said"),
    [
        ("linear", 0.0, [], "schedule=linear: no such schedule; expected one of cosine"),
        ("step", 1.0, [], r"schedule.warmup=1.0; expected a fraction"),
        (
            "step",
            0.0,
            [0.5, 0.2],
            r"=\[0.5, 0.2\]; expected fractions of the run, each above the last",
        ),
        ("step", 0.0, [150, 180], r"schedule.milestones=\[150, 180\]; expected fractions"),
    ],
)
def test_wrong_schedules_are_refused(name: str, warmup: float, milestones: list[float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_schedule(Schedule(name=name, warmup=warmup, milestones=milestones))
