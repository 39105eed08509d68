"""Mistakes and accidents on the command line that must not cost anything, nor be believed."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mcld.engine.checkpoint import list_checkpoints
from mcld.engine.stop import StopRequest
from mcld.models import create_model
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]
QUICK = ["model=resnet8", "model.options.width=2", "schedule.epochs=1", "threads=1"]


def test_a_sweep_shows_before_it_runs(mcld: Mcld, arrays: list[str], tmp_path: Path) -> None:
    words = ("train", *arrays, *QUICK, "run=it's a sweep", "-m", "seed=0,1")
    status, out, err = mcld(*words, "--cfg", "job")
    assert status == 0, err
    assert "# it's a sweep/seed=0\n" in out
    assert "seed: 1" in out
    status, out, err = mcld(*words, "--dry-run")
    assert status == 0, err
    assert out.count("nothing was written") == 2
    assert "the run directory would be it's a sweep/seed=1" in out
    assert not list(tmp_path.iterdir())
    status, _, err = mcld(*words, "devices=2")
    assert (status, "start the runs one by one" in err) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_sweep_in_a_folder_with_a_quote_and_what_it_leaves_is_used(
    mcld: Mcld, arrays: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["mcld", "train", "-m", "what was typed"]
    monkeypatch.setattr("sys.argv", typed)
    status, _, err = mcld("train", *arrays, *QUICK, "run=it's a sweep", "-m", "model.options.width=1000000000,2")
    assert status == 1
    assert err.count("\n") == 2, err
    assert "1 runs of the sweep failed: it's a sweep/model.options.width=1000000000" in err
    name = "it's a sweep/model.options.width=2"
    run = RunDirectory(tmp_path / name)
    assert run.read_json(run.environment)["command"] == typed
    status, _, err = mcld("evaluate", name)
    assert (status, err) == (0, "")
    assert "width=3 is no run directory" in mcld("evaluate", "it's a sweep/model.options.width=3")[2]
    status, _, err = mcld("transfer", name, *arrays, "threads=1", "--protocol", "probe", "run=t")
    assert (status, err) == (0, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["resnet8", "DATA"], "resnet8 is no run directory and has no weights; expected a run directory, or its"),
        (["RUN", "model=resnet8"], "model=resnet8: there is no such setting here"),
        (["RUN", "published=cifar100/resnet56"], "there is no such setting here"),
        (["RUN", "devices=2"], "devices=2: there is no such setting here"),
        (["RUN", "RUN"], "2 networks"),
        (["DATA"], "no network"),
    ],
)
def test_evaluate_measures_what_is_named_or_nothing(
    mcld: Mcld, arrays: list[str], teacher: Path, words: list[str], said: str
) -> None:
    known = {"RUN": [str(teacher)], "DATA": arrays}
    status, out, err = mcld("evaluate", *(part for word in words for part in known.get(word, [word])))
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_asked_to_stop_when_an_epoch_has_one_step(
    mcld: Mcld, arrays: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(self: StopRequest) -> StopRequest:
        self.signal = signal.SIGTERM
        return self

    words = ("train", *arrays, *QUICK, "schedule.epochs=3", "data.batch_size=160", "run=run")
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__enter__", enter)
        status, out, _ = mcld(*words)
    assert status == 128 + signal.SIGTERM
    assert "everything is saved; go on with: mcld resume run" in out
    run = RunDirectory(tmp_path / "run")
    assert [path.name[:10] for path in list_checkpoints(run.checkpoints)] == ["epoch00001"]
    for command in (["evaluate", "run"], ["export", "run", "--format", "safetensors", "--out", "x"]):
        assert "the run run is not finished: epoch 1 of 3" in mcld(*command)[1]
    words = ("transfer", "run", *arrays, "threads=1", "--protocol", "probe", "run=t")
    assert "the run run is not finished: epoch 1 of 3" in mcld(*words)[1]
    assert mcld("resume", "run")[0] == 0
    assert "not finished" not in mcld("evaluate", "run")[1]


def test_weights_that_are_no_numbers_are_no_result(mcld: Mcld, arrays: list[str], tmp_path: Path) -> None:
    hot = ["schedule.lr=1e30", "schedule.name=constant", "optimizer.clip=null", "data.batch_size=160"]
    status, _, err = mcld("train", *arrays, *QUICK, *hot, "run=run")
    assert status == 1
    assert "the validation loss became NaN or Inf in epoch 1; there is no checkpoint yet" in err
    run = RunDirectory(tmp_path / "run")
    assert not run.summary.exists()
    assert not list_checkpoints(run.checkpoints)
    assert mcld("train", *arrays, *QUICK, "run=run", "--force")[0] == 0
    weights = load_file(run.weights("last"))
    save_file({key: value * float("nan") for key, value in weights.items()}, run.weights("last"))
    status, _, err = mcld("evaluate", "run")
    assert status == 1
    assert "run answers NaN or Inf" in err
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json(run.summary, {"loss": float("nan")})
    json.loads(run.summary.read_text())


def test_the_teacher_of_a_file_with_two_networks_is_the_teacher(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    good = load_file(teacher / "last.safetensors")
    state = {f"teacher.{key}": value for key, value in good.items()}
    state |= {f"student.{key}": value for key, value in create_model("resnet8", num_classes=4).state_dict().items()}
    torch.save({"model": state}, tmp_path / "both.pth")
    words = ["distill", *arrays, "teacher=resnet8", "student=resnet8", "student.options.width=2", "schedule.epochs=1"]
    status, out, err = mcld(*words, "teacher.checkpoint=both.pth", "threads=1", "run=run")
    assert status == 0, err
    assert "prefix 'teacher.' stripped" in out
    torch.save({f"student.{key}": value for key, value in good.items()}, tmp_path / "one.pth")
    status, out, err = mcld(*words, "teacher.checkpoint=one.pth", "threads=1", "--dry-run", "run=other")
    assert status == 0, err
    assert "it holds a student only" in out


def test_features_that_are_no_numbers_are_no_result(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    shutil.copytree(teacher, tmp_path / "broken")
    weights = load_file(teacher / "last.safetensors")
    save_file({key: value * float("nan") for key, value in weights.items()}, tmp_path / "broken" / "last.safetensors")
    for protocol in ("probe", "sgd"):
        status, _, err = mcld("transfer", "broken", *arrays, "threads=1", "--protocol", protocol, "run=t")
        assert status == 1
        assert "broken: its features of these images are NaN or Inf" in err
        assert err.count("\n") == 1
        assert not (tmp_path / "t").exists()


def test_a_loop_of_links_in_place_of_a_run(mcld: Mcld, arrays: list[str], tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for words in (["--dry-run"], []):
        status, _, err = mcld("train", *arrays, *QUICK, "run=loop/run", *words)
        assert status == 2
        assert "run=loop/run cannot be made" in err
        assert err.count("\n") == 1


def test_more_than_any_memory_is_one_line(mcld: Mcld, arrays: list[str]) -> None:
    status, _, err = mcld("train", *arrays, *QUICK, "model.options.width=1000000", "run=run")
    assert status == 1
    assert "out of memory" in err
    assert err.count("\n") == 1


def test_a_dry_run_counts_the_devices(mcld: Mcld, arrays: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    status, _, err = mcld("train", *arrays, *QUICK, "devices=2", "--dry-run")
    assert (status, err) == (2, "mcld: devices=2; this machine has 1 CUDA devices\n")


def test_a_run_where_no_folder_can_be_made_is_refused_first(mcld: Mcld, arrays: list[str]) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc here")
    for flag in ([], ["--dry-run"]):
        status, out, err = mcld("train", *arrays, *QUICK, "run=/proc/x", *flag)
        assert (status, out, err) == (2, "", "mcld: run=/proc/x cannot be made: /proc is not writable\n")


def test_a_ramp_that_the_run_does_not_climb_is_said(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    words = ["distill", *arrays, f"teacher={teacher}", "student=resnet8", "student.options.width=2", "threads=1"]
    status, out, err = mcld(*words, "method=dkd", "schedule.epochs=4", "--dry-run")
    assert status == 0, err
    assert "warning: DKD warms up over 20 epochs, the run has 4: its terms reach 0.2 of their weight" in out
    status, _, err = mcld(*words, "method=dkd", "method.warmup=1e30", "--dry-run")
    assert (status, err) == (2, "mcld: warmup is 1e+30; expected a number of epochs, from 0 to 10000\n")
