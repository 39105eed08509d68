import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mcld.cli.main import COMMANDS

Mcld = Callable[..., tuple[int, str, str]]


def test_help_says_what_each_command_does_and_needs_no_torch(mcld: Mcld) -> None:
    status, out, _ = mcld("--help")
    assert status == 0
    for name, text in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", out, re.MULTILINE)
    code = (
        "import sys; from mcld.cli.main import main; main(['--help']); main(['--version'])\n"
        "try: main(['distill', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_first_line_of_help_says_what_the_command_does(mcld: Mcld, command: str) -> None:
    status, out, _ = mcld(command, "--help")
    assert status == 0
    assert out.splitlines()[0] == COMMANDS[command]


def test_the_help_of_distill_explains_every_setting(mcld: Mcld) -> None:
    _, out, _ = mcld("distill", "--help")
    for words in (
        "schedule.epochs=50: passes over",
        "teacher.checkpoint: a file",
        "student.name: a run directory",
        "seed=0",
    ):
        assert words in out
    assert not re.search(r"^  [\w.]+(=\S+)?: *$", out, re.MULTILINE), "a setting without a word about it"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distil"], "there is no command 'distil'; did you mean 'distill'?"),
        (["train", "data=digits", "model=resnet8", "--forse"], "unrecognized arguments: --forse"),
        (["train", "data=digits", "model=resnet9"], "there is no model 'resnet9'; did you mean 'resnet8'"),
        (["train", "data=digits", "model=resnet8", "schedule.epochs=0"], "schedule.epochs=0; expected at least 1"),
        (
            ["train", "data=digits", "model=resnet8", "threads=9999999999"],
            "threads=9999999999; expected at most ",
        ),
        (
            ["train", "data=digits", "model=resnet8", "model.weights=mean"],
            "model.weights=mean; expected one of last, best",
        ),
        (["train", "data=digits", "model=resnet8", "schedule.lr=-1"], "schedule.lr=-1.0; expected a positive number"),
        (["train", "data=digits", "model=resnet8", "device=cuda"], "device=cuda: this machine has no CUDA"),
        (["train", "data=digits", "model=resnet8", "device=gpu"], "device=gpu; expected one of auto, cpu, cuda, mps"),
        (["train", "data=digits", "model=resnet8", "precision=16-mixed"], "precision=16-mixed needs a CUDA device"),
        (["train", "data=digits", "model=resnet8", "schedule=linear"], "schedule=linear: no such schedule"),
        (["train", "data=digits", "model=resnet8", "data.batch_size=63", "devices=2"], "cannot be shared equally by 2"),
        (["distill", "data=digits", "teacher=runs/none", "student=resnet8"], "teacher=runs/none does not exist"),
        (["distill", "data=digits", "student=resnet8"], "teacher is not set; expected teacher=VALUE"),
        (["resume", "runs/none"], "runs/none: no such run directory"),
        (["evaluate", "data=digits"], "expected a run directory or a model"),
        (["evaluate", "resnet8"], "resnet8 is no run directory; say what to evaluate it on: data=NAME"),
        (["methods", "mcdl"], "did you mean 'mcld'"),
        (["data", "digit"], "did you mean 'digits'"),
        (["models", "--classes", "0"], "--classes 0; expected at least 1"),
        (["demo", "--seeds", "0"], "--seeds 0; expected at least 1"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(mcld: Mcld, words: list[str], said: str, tmp_path: Path) -> None:
    if "device=cuda" in words or "precision=16-mixed" in words:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has CUDA, so this is no mistake here")
    status, _, err = mcld(*words)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "something was written"


def test_lists(mcld: Mcld) -> None:
    _, methods, _ = mcld("methods")
    for name in ("mcld", "kd", "plain"):
        assert re.search(rf"^{name}\b", methods, re.MULTILINE)
    _, out, _ = mcld("methods", "mcld")
    assert "method.category.warmup=0.3" in out
    assert "2411.10693" in out
    _, data, _ = mcld("data")
    for name in ("digits", "mnist5k", "cifar10", "cifar100", "folder", "arrays"):
        assert re.search(rf"^{name}\b", data, re.MULTILINE)
    assert "data.path=" in mcld("data", "folder")[1]
    _, models, _ = mcld("models")
    assert re.search(r"^resnet8x4 .*1,233,540 +177\.1 +32 +0\.05", models, re.MULTILINE)
    assert "timm/NAME" in models
    _, fitted, _ = mcld("models", "timm/pit_ti_224", "ResNet20", "--size", "32", "--classes", "10")
    assert re.search(r"^timm/pit_ti_224 +timm +4,512,458 +42\.5 +32 +0\.05$", fitted, re.MULTILINE)
    assert re.search(r"^resnet20 +resnet +272,474 ", fitted, re.MULTILINE)
    assert "timm/pit_ti_224 is fitted to the images: img_size=32 patch_size=8 stride=4" in fitted


def test_the_plan_can_be_looked_at_without_running(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    words = ("distill", *arrays, f"teacher={teacher}", "student=resnet8", "method=kd", "schedule.epochs=1", "run=run")
    status, out, err = mcld(*words, "--cfg", "job")
    assert (status, err) == (0, "")
    for said in ("temperature: 4.0", "  lr: 0.05", "precision: '32'", "classes: [a, b, c, d]", "image_size: [8, 8]"):
        assert said in out
    assert not re.search(r"(lr|precision|channels_last|compile|threads|ce_weight|run): (null|auto)$", out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []
    assert mcld(*words)[0] == 0
    assert (tmp_path / "run" / "config.yaml").read_text() == out
    status, out, err = mcld("distill", "data=digits", "teacher=t", "student=resnet8", "--cfg", "job")
    assert (status, out) == (2, "")
    assert "there is no model 't'" in err
    status, out, err = mcld("train", "data=cifar10", "data.path=nowhere", "model=resnet8", "--cfg", "job")
    assert (status, out) == (2, "")
    assert "data.download is off" in err  # nothing is fetched to look at a plan


def test_a_dry_run_tells_everything_and_writes_nothing(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    for words, said in (
        (["devices=3"], "cannot be shared equally by 3 devices"),
        (["teacher=resnet14", "teacher.options.width=2"], "near chance"),
    ):
        status, _, err = mcld(
            "distill", *arrays, f"teacher={teacher}", "student=resnet8", "threads=1", *words, "--dry-run"
        )
        assert status == 2
        assert said in err
    status, out, err = mcld("distill", *arrays, f"teacher={teacher}", "student=resnet8", "threads=1", "--dry-run")
    assert status == 0, err
    for said in (
        "160 training and 60 validation images, 4 classes, 8×8 px, 3 channels",
        "classes: a, b, c, d",
        "teacher resnet8: 77,652 parameters, 0.782 MMACs",
        "student resnet8: 77,652 parameters",
        "50 epochs of 5 steps, batch 32, one_cycle schedule, lr 0.05",
        "nothing was written",
    ):
        assert said in out
    assert re.search(r"loss terms at the first weights: ce \d.*instance \d.*sample \d.*category \d", out)
    assert re.search(r"about \d+ (s|min) of training", out)
    assert list(tmp_path.iterdir()) == []
