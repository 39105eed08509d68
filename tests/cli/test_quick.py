"""Help and refusals come before the libraries that take seconds to import."""

import subprocess
import sys

import pytest

SLOW = ("torch", "torchvision", "timm", "hydra", "matplotlib", "sklearn", "lightning_fabric")
CODE = f"""
import sys
from mcld.cli.main import main
try:
    status = main(sys.argv[1:])
except SystemExit as left:
    status = left.code or 0
print(status, *[name for name in {SLOW!r} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--help", "mcld demo"),
        ("train --help", "settings are words"),
        ("distill --help", "settings are words"),
        ("published --help", "recipe with the numbers"),
        ("export --help", "formats:"),
        ("clean --help", "checkpoints"),
        ("predic x", "did you mean 'predict'?"),
        ("serve x", "there is no command 'serve'; expected bench"),
        ("train data=digits mdoel=resnet8", "there is no setting 'mdoel'; did you mean 'model'?"),
        ("distill schedule.epoch=3", "there is no setting 'schedule.epoch'; did you mean 'schedule.epochs'?"),
        ("distill lr=0.1", "there is no setting 'lr'; did you mean 'schedule.lr'?"),
        ("methods kdd", "there is no method 'kdd'; did you mean 'kd'?"),
        ("export nowhere --format onx", "there is no export format 'onx'; did you mean 'onnx'?"),
        ("export nowhere --format onnx", "nowhere: no such run directory"),
        ("evaluate nowhere", "nowhere is no run directory; say what to evaluate it on: data=NAME"),
    ],
)
def test_nothing_slow_is_imported(words: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words.split()], capture_output=True, text=True, timeout=120, check=True
    )
    *_, last = done.stderr.splitlines()
    assert last == ("0" if words.endswith("--help") else "2")
    assert said in done.stdout + done.stderr


def test_a_setting_of_the_right_group_gets_no_hint_at_another_thing(mcld: object) -> None:
    status, _, err = mcld("train", "data=digits", "data.nothing=3")  # type: ignore[operator]
    assert (status, "did you mean" in err) == (2, False)
    assert "there is no setting 'data.nothing'; expected data.augment, data.batch_size" in err
