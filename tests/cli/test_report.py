import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mcld.assembly.networks import load_run
from mcld.data import load_data
from mcld.report.answers import read_answers

Mcld = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory, arrays: list[str], teacher: Path) -> Path:
    """A finished student of ``teacher``."""
    from mcld.cli.main import main

    run = tmp_path_factory.mktemp("student") / "small"
    small = ["student=resnet8", "student.options.width=4", "method=kd", "schedule.epochs=2", "threads=1"]
    assert main(["distill", *arrays, f"teacher={teacher}", *small, f"run={run}"]) == 0
    return run


def test_a_run_is_shown_with_what_its_weights_answer(
    mcld: Mcld, student: Path, arrays: list[str], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(student, tmp_path / "small"))
    status, out, err = mcld("report", "small")
    assert status == 0, err
    assert "the report: small/report.html" in out
    page = (run / "report.html").read_text()
    assert "of its parameters" in page
    assert "Accuracy of each class" in page
    assert {file.name for file in (run / "figures").iterdir()} >= {"curves.svg", "classes.svg", "confusion.svg"}
    options = dict(word.removeprefix("data.").split("=") for word in arrays if word.startswith("data."))
    split = load_data("arrays", train=options["train"], val=options["val"]).val
    everything = torch.arange(len(split))
    with torch.no_grad():
        logits = load_run(str(run)).eval()(split.images(everything, torch.full_like(everything, split.views.center)))
    answers = read_answers(run / "answers.npz")
    assert answers.predicted.tolist() == logits.argmax(dim=1).tolist()
    assert answers.labels.tolist() == split.labels.tolist()
    assert answers.teacher is not None
    written = (run / "answers.npz").stat().st_mtime_ns
    status, out, err = mcld("report", "small")  # from what is kept
    assert status == 0, err
    assert (run / "answers.npz").stat().st_mtime_ns == written
    assert (run / "report.html").read_text() == page


def test_runs_are_compared(mcld: Mcld, student: Path, teacher: Path, tmp_path: Path) -> None:
    for name, source in (("small", student), ("big", teacher)):
        shutil.copytree(source, tmp_path / name)
    status, _, err = mcld("report", "small", "big")
    assert (status, "2 runs: say where the page goes, such as --out comparison.html" in err) == (2, True)
    status, _, err = mcld("report", "small", "big", "--out", "both.html")
    assert status == 0, err
    page = (tmp_path / "both.html").read_text()
    assert "Settings that differ" in page
    assert "schedule.epochs" in page
    status, _, err = mcld("report", "small", "big", "--out", "both.html")
    assert (status, "--out both.html exists already" in err) == (2, True)
    assert mcld("report", "small", "big", "--out", "both.html", "--force")[0] == 0


def test_without_its_data_the_page_goes_without_the_answers(mcld: Mcld, student: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(student, tmp_path / "small"))
    (run / "answers.npz").unlink(missing_ok=True)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("val.npz", "gone.npz"))
    status, out, err = mcld("report", "small")
    assert status == 0, err
    assert "warning: the page goes without the answers of small:" in out
    assert "gone.npz" in out
    assert "Not known of small" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: RUN; see: mcld report --help"),
        (["nowhere"], "nowhere: no such run directory"),
        (["begun"], "begun is not finished; first go on with it: mcld resume begun"),
        (
            ["small", "--out", "no/page.html"],
            "--out no/page.html cannot be written: there is no folder no; expected a file such as report.html",
        ),
        (["small", "--out", "small"], "--out small is a folder; expected a file such as report.html"),
    ],
)
def test_what_cannot_be_shown(mcld: Mcld, student: Path, tmp_path: Path, words: list[str], message: str) -> None:
    shutil.copytree(student, tmp_path / "small")
    shutil.copytree(student, tmp_path / "begun")
    (tmp_path / "begun/summary.json").unlink()
    before = sorted(tmp_path.rglob("*"))
    status, _, err = mcld("report", *words)
    assert (status, err.strip()) == (2, f"mcld: {message}")
    assert sorted(tmp_path.rglob("*")) == before
