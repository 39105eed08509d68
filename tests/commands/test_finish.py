"""The end of a run: a temperature that is fitted and kept, a page, and what comes next."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mcld.assembly.networks import load_run, weights_line
from mcld.data import Preprocessing, load_data
from mcld.evaluation.calibration import calibrate, calibration_error
from mcld.models.network import ModelSpec
from mcld.report.answers import read_answers

Mcld = Callable[..., tuple[int, str, str]]
SMALL = ["student=resnet8", "student.options.width=4", "method=kd", "schedule.epochs=2", "threads=1"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, arrays: list[str], teacher: Path) -> Path:
    """A finished student of ``teacher``."""
    from mcld.cli.main import main

    run = tmp_path_factory.mktemp("finished") / "small"
    assert main(["distill", *arrays, f"teacher={teacher}", *SMALL, f"run={run}"]) == 0
    return run


def options(arrays: list[str]) -> dict[str, str]:
    given = dict(word.removeprefix("data.").split("=") for word in arrays)
    return {key: given[key] for key in ("train", "val")}


def test_the_temperature_is_fitted_on_the_validation_images_and_kept(finished: Path, arrays: list[str]) -> None:
    network = load_run(str(finished)).eval()
    split = load_data("arrays", **options(arrays)).val
    everything = torch.arange(len(split))
    with torch.no_grad():
        logits = network(split.images(everything, torch.full_like(everything, split.views.center)))
    found = calibrate(logits, split.labels)
    summary = json.loads((finished / "summary.json").read_text())
    assert network.spec.temperature == pytest.approx(found.temperature, rel=1e-4)
    assert summary["calibration"]["temperature"] == network.spec.temperature
    assert summary["calibration"]["error"] == pytest.approx(calibration_error(logits, split.labels), abs=1e-4)
    scaled = calibration_error(logits / found.temperature, split.labels)
    assert summary["calibration"]["error_at_temperature"] == pytest.approx(scaled, abs=1e-4)
    assert Preprocessing.from_dict(network.spec.preprocessing) == Preprocessing("RGB", 8, (8, 8))
    assert weights_line(str(finished), "last").endswith("as they were written")  # model.json was written after them
    log = (finished / "log.txt").read_text()
    assert f"at the temperature {found.temperature:.3g}, which was fitted on these same images" in log
    for command in ("evaluate", "predict", "export", "report"):
        assert f"  mcld {command} {finished}" in log


def test_the_best_weights_have_no_temperature_unless_they_are_the_last(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.copy(run / "last.safetensors", run / "best.safetensors")
    assert load_run(str(run), "best").spec.temperature == load_run(str(run)).spec.temperature is not None
    other = load_run(str(run))
    torch.nn.init.zeros_(next(other.model.parameters()))
    from mcld.models.network import save_weights

    save_weights(other, run / "best.safetensors")
    assert load_run(str(run), "best").spec.temperature is None


def test_a_run_without_the_new_fields_goes_on_and_gets_them(mcld: Mcld, finished: Path, tmp_path: Path) -> None:
    """As earlier versions left ``model.json``."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = json.loads((run / "model.json").read_text())
    old = {key: value for key, value in before.items() if key not in ("preprocessing", "temperature")}
    (run / "model.json").write_text(json.dumps(old))
    assert ModelSpec.from_dict(old).preprocessing == {}
    assert mcld("evaluate", "run", "threads=1")[0] == 0
    (run / "summary.json").unlink()
    status, _, err = mcld("resume", "run")
    assert status == 0, err
    assert json.loads((run / "model.json").read_text()) == before
    assert weights_line("run", "last").endswith("as they were written")
    changed = {**before, "mean": [0.0, 0.0, 0.0]}
    (run / "model.json").write_text(json.dumps(changed))
    status, _, err = mcld("resume", "run")
    assert (status, "the network in model.json changed since it began" in err) == (2, True)
    changed = {**before, "preprocessing": {**before["preprocessing"], "resize": 9}}
    (run / "model.json").write_text(json.dumps(changed))
    assert mcld("resume", "run")[0] == 2


def test_a_run_ends_with_its_report(
    mcld: Mcld, reports: None, arrays: list[str], teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["distill", *arrays, f"teacher={teacher}", *SMALL]
    status, out, err = mcld(*words, "run=run")
    assert (status, err) == (0, "")
    assert "warning" not in out
    run = tmp_path / "run"
    assert "of its parameters" in (run / "report.html").read_text()
    assert (run / "figures/curves.svg").is_file()
    kept = read_answers(run / "answers.npz")
    (run / "answers.npz").unlink()
    assert mcld("report", "run")[0] == 0  # which loads everything again, and comes to the same
    again = read_answers(run / "answers.npz")
    assert kept.predicted.tolist() == again.predicted.tolist()
    assert kept.teacher is not None
    assert again.teacher is not None
    assert kept.teacher.tolist() == again.teacher.tolist()
    assert kept.temperature == pytest.approx(again.temperature, rel=1e-4)
    assert mcld(*words, "run=bare", "report=false")[0] == 0
    assert not (tmp_path / "bare/report.html").exists()

    def fails(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("mcld.commands.report.report_runs", fails)
    status, out, err = mcld(*words, "run=full")
    assert (status, err) == (0, "")
    assert "warning: the report was not written (the disk is full); write it later: mcld report full" in out
    assert (tmp_path / "full/summary.json").is_file()
