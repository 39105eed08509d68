import dataclasses

import pytest
import torch

from mcld.assembly.choices import choose, choose_layout, describe_choices, teacher_channels_last
from mcld.configs.compose import compose
from mcld.configs.schema import RunSettings
from mcld.errors import InputError
from mcld.models import create_model


def settings(*words: str) -> RunSettings:
    return compose("train", ["data=digits", "model=resnet8", *words])


def choose_all(chosen: RunSettings, width: int = 16) -> RunSettings:
    return choose_layout(choose(chosen), model=create_model("resnet8", 4, 3, width=width))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["device=cpu"], "precision 32, channels last, fused sgd, not compiled"),
        (["device=cpu", "channels_last=false", "compile=true"], "precision 32, channels first, fused sgd, compiled"),
        (
            ["device=cpu", "optimizer=adamw", "optimizer.fused=false"],
            "precision 32, channels last, adamw, not compiled",
        ),
        (["device=cuda"], "precision 32, channels first, fused sgd, not compiled"),
        (
            ["device=cuda", "precision=16-mixed", "optimizer.clip=5"],
            "precision 16-mixed, channels first, sgd, not compiled",
        ),
        (
            ["device=cuda", "precision=16-mixed"],
            "precision 16-mixed, channels first, fused sgd, not compiled",
        ),
        (["device=mps", "precision=bf16"], "precision bf16, channels first, sgd, not compiled"),
    ],
)
def test_the_choice_follows_from_the_device_and_yields_to_the_settings(words: list[str], said: str) -> None:
    chosen = choose_all(settings(*words))
    assert describe_choices(chosen) == said
    for again in (choose_all(settings(*words)), choose_all(chosen)):  # what is chosen stays
        assert dataclasses.asdict(again) == dataclasses.asdict(chosen)


def test_a_device_left_open_is_the_one_there_is() -> None:
    open_, named = settings(), settings("device=cuda" if torch.cuda.is_available() else "device=cpu")
    assert describe_choices(choose_all(open_)) == describe_choices(choose_all(named))


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match=r"optimizer\.fused=true cannot limit .* optimizer\.clip=null"):
        choose(settings("device=cuda", "precision=16-mixed", "optimizer.fused=true", "optimizer.clip=5"))


def test_a_network_that_channels_last_would_crash_is_left_as_it_is() -> None:
    narrow = choose_all(settings("device=cpu"), width=4)
    assert narrow.channels_last is False
    on_cuda = choose_all(settings("device=cuda", "channels_last=true"), width=4)
    assert on_cuda.channels_last is True
    with pytest.raises(InputError, match=r"channels_last=true: PyTorch cannot train model\.layer2\.0\.downsample\.0 "):
        choose_all(settings("device=cpu", "channels_last=true"), width=4)


def test_a_teacher_is_laid_out_by_the_device_whatever_the_student() -> None:
    """So that all students of one teacher see the same bits."""
    wide, narrow = choose_all(settings("device=cpu")), choose_all(settings("device=cpu"), width=4)
    assert wide.channels_last is not narrow.channels_last
    assert teacher_channels_last(wide) is teacher_channels_last(narrow) is True
