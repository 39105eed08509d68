import pytest
import torch

from mcld.configs.compose import compose
from mcld.configs.schema import Run
from mcld.errors import InputError
from mcld.training.choices import choose, describe_choices


def settings(*words: str) -> Run:
    return compose("train", ["data=digits", "model=resnet8", *words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["device=cpu"], "precision 32, channels first, fused sgd, not compiled"),
        (["device=cpu", "channels_last=false", "compile=true"], "precision 32, channels first, fused sgd, compiled"),
        (
            ["device=cpu", "optimizer=adamw", "optimizer.fused=false"],
            "precision 32, channels last, adamw, not compiled",
        ),
        (["device=cuda"], "precision 32, channels first, fused sgd, not compiled"),
        (["device=cuda", "precision=16-mixed"], "precision 16-mixed, channels first, sgd, not compiled"),
        (
            ["device=cuda", "precision=16-mixed", "optimizer.clip=null"],
            "precision 16-mixed, channels first, fused sgd, not compiled",
        ),
        (["device=mps", "precision=bf16"], "precision bf16, channels first, sgd, not compiled"),
    ],
)
def test_the_choice_follows_from_the_device_and_yields_to_the_settings(words: list[str], said: str) -> None:
    chosen = settings(*words)
    choose(chosen)
    assert describe_choices(chosen) == said
    again = settings(*words)
    choose(again)
    assert again == chosen
    choose(again)  # what is chosen stays
    assert again == chosen


def test_a_device_left_open_is_the_one_there_is() -> None:
    open_, named = settings(), settings("device=cuda" if torch.cuda.is_available() else "device=cpu")
    choose(open_)
    choose(named)
    assert describe_choices(open_) == describe_choices(named)


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match=r"optimizer\.fused=true cannot limit .* optimizer\.clip=null"):
        choose(settings("device=cuda", "precision=16-mixed", "optimizer.fused=true"))
