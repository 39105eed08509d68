import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mcld.engine.checkpoint import list_checkpoints
from mcld.methods import KD
from mcld.models.network import ModelSpec, load_weights
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]
SMALL = ["student=resnet8", "student.options.width=4", "schedule.epochs=3", "threads=1"]


@pytest.fixture
def student(mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path) -> tuple[RunDirectory, str]:
    status, out, err = mcld("distill", *arrays, f"teacher={teacher}", *SMALL, "method=[mcld,kd]", "run=run")
    assert status == 0, err
    return RunDirectory(tmp_path / "run"), out


def test_a_run_leaves_everything_that_a_reader_needs(student: tuple[RunDirectory, str], mcld: Mcld) -> None:
    run, out = student
    rows = list(csv.DictReader(run.metrics.open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    terms = ["ce", "mcld.instance", "mcld.sample", "mcld.category", "kd.kl"]
    for row in rows:
        assert sum(float(row[name]) for name in terms) == pytest.approx(float(row["loss"]))
    summary = run.read_json(run.summary)
    top1 = [float(row["val_top1"]) for row in rows]
    assert summary["last"]["top1"] == top1[-1]
    assert summary["best"]["top1"] == max(top1)
    assert summary["best"]["epoch"] == 1 + top1.index(max(top1))
    assert summary["curves"]["kd.kl"] == [float(row["kd.kl"]) for row in rows]
    assert summary["teacher"]["parameters"] == 77_652
    assert torch.__version__.startswith(run.read_json(run.environment)["packages"]["torch"])
    assert "lr: 0.05" in run.config.read_text()  # what was left open is filled in
    assert f"top-1 {summary['last']['top1']:.2%}" in out
    assert "epoch 3/3" in run.log.read_text()
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("val_top1")] == [
        (i + 1, pytest.approx(value)) for i, value in enumerate(top1)
    ]
    spec = json.loads(run.model.read_text())
    assert spec["classes"] == ["a", "b", "c", "d"]
    status, out, _ = mcld("evaluate", str(run.path))
    assert status == 0
    assert f"top-1 {top1[-1]:.2%}" in out
    status, out, _ = mcld("evaluate", str(run.path), "model.weights=best", "data.batch_size=8")
    assert f"top-1 {max(top1):.2%}" in out


def test_the_weights_are_the_students_alone_and_rebuild_it(student: tuple[RunDirectory, str]) -> None:
    run, _ = student
    network = ModelSpec.from_dict(run.read_json(run.model)).build()
    load_weights(network.model, run.weights("best"))
    assert set(load_file(run.weights("last"))) == set(network.model.state_dict())
    logits = network(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    assert logits.shape == (2, 4)


def test_an_existing_run_is_kept_without_force(
    student: tuple[RunDirectory, str], mcld: Mcld, arrays: list[str]
) -> None:
    run, _ = student
    before = run.weights("last").read_bytes()
    words = ["train", *arrays, "model=resnet8", "model.options.width=4", "schedule.epochs=1", "threads=1", "run=run"]
    status, _, err = mcld(*words)
    assert (status, run.weights("last").read_bytes()) == (2, before)
    assert "exists already" in err
    assert mcld(*words, "--force")[0] == 0
    assert len(list_checkpoints(run.checkpoints)) == 1
    assert run.read_json(run.summary)["command"] == "train"


def test_every_method_starts_from_the_same_student_and_sees_the_same_images(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    """At a learning rate of almost nothing the weights stay as they were, and cross-entropy tells the images."""
    first = {}
    for method in ("plain", "kd", "mcld"):
        words = [
            *SMALL,
            f"method={method}",
            "schedule.lr=1e-12",
            "optimizer.weight_decay=0",
            "ce_weight=1",
            f"run={method}",
        ]
        assert mcld("distill", *arrays, f"teacher={teacher}", *words)[0] == 0
        run = RunDirectory(tmp_path / method)
        first[method] = (load_file(run.weights("last"))["conv1.weight"], [row["ce"] for row in run.read_metrics()])
    for method in ("kd", "mcld"):
        torch.testing.assert_close(first[method][0], first["plain"][0], atol=1e-8, rtol=0)
        assert first[method][1] == pytest.approx(first["plain"][1], rel=1e-6)


def test_plain_training_says_how_far_it_agrees_with_a_teacher(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    assert mcld("distill", *arrays, f"teacher={teacher}", *SMALL, "method=plain", "run=run")[0] == 0
    run = RunDirectory(tmp_path / "run")
    row = run.read_metrics()[-1]
    assert 0 <= row["agreement"] <= 1
    assert row["loss"] == row["ce"]


def test_a_loss_that_is_no_number_stops_the_run(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*SMALL, "method=kd", "schedule.lr=1e-6", "run=run"]
    with monkeypatch.context() as patch:
        patch.setattr(KD, "terms", lambda self, student, *_: {"kl": math.nan * student.sum()})
        status, _, err = mcld("distill", *arrays, f"teacher={teacher}", *words)
    assert status == 1
    assert "the loss term 'kl' became NaN or Inf in epoch 1, step 1; there is no checkpoint yet" in err
    assert err.count("\n") == 1
    words = ["train", *arrays, "model=resnet8", "schedule=constant", "schedule.lr=1e18", "threads=1", "run=hot"]
    status, _, err = mcld(*words)
    assert status == 1
    assert "the loss term 'ce' became NaN or Inf" in err
    hot = RunDirectory(tmp_path / "hot")
    for path in list_checkpoints(hot.checkpoints):  # nothing of the broken state was saved
        state = torch.load(path, weights_only=True)
        assert all(math.isfinite(row["loss"]) for row in state["history"])
        assert str(path).rpartition("/")[2] in err


def test_a_teacher_that_knows_nothing_is_refused_before_anything_is_written(
    mcld: Mcld, arrays: list[str], tmp_path: Path
) -> None:
    words = ["distill", *arrays, "teacher=resnet14", *SMALL, "run=run"]
    status, out, err = mcld(*words)
    assert status == 2
    assert "teacher resnet14: top-1" in out
    assert "near chance" in err
    assert not (tmp_path / "run").exists()
    assert mcld(*words, "teacher.allow_near_chance=true")[0] == 0


def test_a_teacher_with_other_classes_is_refused_with_the_difference(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    words = list(arrays)
    for split in ("train", "val"):
        old = next(word for word in arrays if word.startswith(f"data.{split}=")).partition("=")[2]
        with np.load(old) as content:
            np.savez(
                tmp_path / f"{split}.npz",
                images=content["images"],
                labels=content["labels"],
                names=["a", "b", "x", "d"],
            )
        words = [w for w in words if not w.startswith(f"data.{split}=")] + [f"data.{split}={tmp_path / split}.npz"]
    status, _, err = mcld("distill", *words, f"teacher={teacher}", *SMALL, "run=run")
    assert status == 2
    assert f"only teacher {teacher}: 'c'; only the data: 'x'" in err
    assert not (tmp_path / "run").exists()


def test_a_teacher_may_have_its_own_normalisation(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    right = mcld("distill", *arrays, f"teacher={teacher}", *SMALL, "schedule.epochs=1", "run=a")[1]
    words = ["teacher.mean=[5,5,5]", "teacher.std=[0.1,0.1,0.1]", "teacher.allow_near_chance=true"]
    wrong = mcld("distill", *arrays, f"teacher={teacher}", *words, *SMALL, "schedule.epochs=1", "run=b")[1]

    def line(out: str) -> str:
        return next(line for line in out.splitlines() if line.startswith(f"teacher {teacher}: top-1"))

    assert line(right) != line(wrong)


def test_a_place_that_cannot_be_written_to_is_told_at_once(mcld: Mcld, arrays: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = mcld("train", *arrays, "model=resnet8", "run=file/run")
    assert status == 2
    assert "cannot be made" in err


def test_a_disk_that_fills_up_keeps_the_last_good_checkpoint(
    mcld: Mcld, arrays: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    real = os.fsync
    calls = iter(range(10**6))

    def fsync(descriptor: int) -> None:
        if next(calls) > 13:  # after the first epoch, within the second checkpoint
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    words = ["train", *arrays, "model=resnet8", "model.options.width=4", "schedule.epochs=3", "threads=1", "run=run"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        status, _, err = mcld(*words)
    assert status == 2
    assert "No space left on device" in err
    assert err.count("\n") == 1
    run = RunDirectory(tmp_path / "run")
    assert [path.name[:10] for path in list_checkpoints(run.checkpoints)] == ["epoch00001"]
    assert mcld("resume", "run")[0] == 0
    assert len(run.read_metrics()) == 3


def test_a_student_may_start_from_a_run(mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path) -> None:
    words = ["train", *arrays, f"model={teacher}", "schedule.epochs=1", "schedule.lr=1e-9", "threads=1", "run=run"]
    assert mcld(*words)[0] == 0
    ours = load_file(tmp_path / "run" / "last.safetensors")["conv1.weight"]
    torch.testing.assert_close(ours, load_file(teacher / "last.safetensors")["conv1.weight"], atol=1e-6, rtol=0)


def test_compile_and_bf16_and_one_cycle_run(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    words = [*SMALL, "precision=bf16", "schedule=one_cycle", "optimizer=adamw", "schedule.warmup=0.1", "run=run"]
    status, out, err = mcld("distill", *arrays, f"teacher={teacher}", *words)
    assert status == 0, err
    assert "precision bf16" in out


@pytest.mark.slow
def test_a_compiled_student_learns_the_same(mcld: Mcld, arrays: list[str], tmp_path: Path) -> None:
    for flag in ("false", "true"):
        words = ["model=resnet8", "schedule.epochs=2", "threads=1", f"compile={flag}", f"run={flag}"]
        assert mcld("train", *arrays, *words)[0] == 0
    compiled, eager = (RunDirectory(tmp_path / flag).read_metrics() for flag in ("true", "false"))
    for row, other in zip(compiled, eager, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_a_sweep_makes_one_run_for_each_combination(mcld: Mcld, arrays: list[str], tmp_path: Path) -> None:
    words = ["train", *arrays, "model=resnet8", "model.options.width=4", "schedule.epochs=1", "threads=1", "run=sweep"]
    status, _, err = mcld(*words, "-m", "seed=0,1", "optimizer=sgd,adamw")
    assert status == 0, err
    runs = sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    assert runs == [f"optimizer={name},seed={seed}" for name in ("adamw", "sgd") for seed in (0, 1)]
    assert all(RunDirectory(tmp_path / "sweep" / name).summary.exists() for name in runs)
    status, _, err = mcld(*words, "-m", "seed=2,x")
    assert status == 2
    assert "seed=x: expected an integer" in err


def test_a_run_needs_something_to_learn_from(mcld: Mcld, arrays: list[str]) -> None:
    status, _, err = mcld("distill", *arrays, "method=plain", *SMALL, "ce_weight=0")
    assert status == 2
    assert "leaves nothing to learn from" in err


def test_mcld_learns_at_the_default_settings(mcld: Mcld, teacher: Path, arrays: list[str], tmp_path: Path) -> None:
    """Without the limit on the gradient's norm the first steps left students that answer the same to everything."""
    words = ["student=resnet8", "schedule.epochs=6", "threads=1", "run=run"]
    assert mcld("distill", *arrays, f"teacher={teacher}", *words)[0] == 0
    assert RunDirectory(tmp_path / "run").read_metrics()[-1]["val_top1"] > 0.6


def test_a_run_goes_on_only_with_the_data_and_the_teacher_it_began_with(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    shutil.copytree(teacher, tmp_path / "teacher")
    files = {}
    for split in ("train", "val"):
        source = next(word for word in arrays if word.startswith(f"data.{split}=")).partition("=")[2]
        files[split] = tmp_path / f"{split}.npz"
        shutil.copy(source, files[split])
    words = [*arrays, *(f"data.{split}={file}" for split, file in files.items()), "teacher=teacher", *SMALL, "run=run"]
    assert mcld("distill", *words)[0] == 0
    assert mcld("resume", "run")[0] == 0

    with np.load(files["train"]) as content:
        changed = dict(content)
    original = files["train"].read_bytes()
    changed["images"][0, 0, 0, 0] ^= 1
    np.savez(files["train"], **changed)
    status, _, err = mcld("resume", "run")
    assert (status, "the training data changed since it began" in err) == (2, True)
    files["train"].write_bytes(original)

    weights = load_file(tmp_path / "teacher" / "last.safetensors")
    weights["fc.bias"][0] += 0.001
    save_file(weights, tmp_path / "teacher" / "last.safetensors")
    status, _, err = mcld("resume", "run")
    assert (status, "the teacher's weights changed since it began" in err) == (2, True)


def test_force_never_destroys_the_run_that_is_read_from(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    shutil.copytree(teacher, tmp_path / "teacher")
    status, _, err = mcld("distill", *arrays, "teacher=teacher", *SMALL, "run=./teacher", "--force")
    assert status == 2
    assert "run=./teacher would replace teacher=teacher, which it reads" in err
    words = ["model=resnet8", "model.checkpoint=teacher/last.safetensors", "run=teacher", "--force"]
    for more in ([], ["--dry-run"]):
        status, _, err = mcld("train", *arrays, *words, *more)
        assert status == 2
        assert "would replace model.checkpoint=teacher/last.safetensors, which it reads" in err
    assert (tmp_path / "teacher" / "last.safetensors").exists()


def test_a_mistake_with_force_leaves_the_old_run_alone(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    shutil.copytree(teacher, tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*") if file.is_file()}
    for word in ("data.batch_size=1", "optimizer.momentum=0.0 optimizer.nesterov=true", "model.options.width=x"):
        assert mcld("train", *arrays, "model=resnet8", "threads=1", *word.split(), "run=run", "--force")[0] == 2
        assert mcld("train", *arrays, "model=resnet8", "threads=1", *word.split(), "run=new")[0] == 2
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert not (tmp_path / "new").exists()


def test_a_failed_cell_of_a_sweep_does_not_stop_the_others(mcld: Mcld, arrays: list[str], tmp_path: Path) -> None:
    words = ["train", *arrays, "model=resnet8", "schedule=constant", "schedule.epochs=2", "threads=1", "run=sweep"]
    status, _, err = mcld(*words, "-m", "schedule.lr=1e18,0.05")
    assert status == 1
    assert "schedule.lr=1e18: the loss term 'ce' became NaN or Inf" in err
    assert "1 runs of the sweep failed" in err
    assert RunDirectory(tmp_path / "sweep" / "schedule.lr=0.05").summary.exists()


def test_a_sweep_over_plain_training_needs_no_teacher(mcld: Mcld, arrays: list[str], tmp_path: Path) -> None:
    status, _, err = mcld(
        "distill", *arrays, *SMALL, "schedule.epochs=1", "method=plain", "run=sweep", "-m", "seed=0,1"
    )
    assert status == 0, err
    assert RunDirectory(tmp_path / "sweep" / "seed=1").summary.exists()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=5000000000000000000", "expected a number below 2**62"),
        ("optimizer.nesterov=true optimizer.momentum=0", "needs optimizer.momentum above 0"),
        ("model.options.width=wide", "option width of model resnet8 is 'wide'"),
        ("model.mean=[0.5]", "mean is [0.5]; expected a list of 3"),
        ("model.mean=[123.7,116.3,103.5]", "for images scaled to 0..1: those for 0..255 are to be divided by 255"),
        ("model.std=[1e30,1,1]", "model.std=[1e+30, 1.0, 1.0]; expected numbers from 0.001 to 10"),
        ("data.workers=-1", "option 'workers' is -1; expected 0 to 256"),
        ("data.batch_size=1", "expected at least 2"),
    ],
)
def test_settings_that_cannot_work_are_told_in_one_line(mcld: Mcld, arrays: list[str], word: str, said: str) -> None:
    status, _, err = mcld("train", *arrays, "model=resnet8", *word.split(), "run=run")
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
