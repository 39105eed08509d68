"""Going on with a run that somebody has moved, edited or damaged."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mcld.configs.compose import settings_from_yaml
from mcld.engine.stop import StopRequest
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stopped(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunDirectory:
    """A distillation that was stopped after its first epoch; all its paths were given relative to tmp_path."""

    def enter(self: StopRequest) -> StopRequest:
        self.signal = signal.SIGTERM
        return self

    (tmp_path / "t").symlink_to(teacher)
    (tmp_path / "d").symlink_to(Path(arrays[1].partition("=")[2]).parent)
    data = ["data=arrays", "data.train=d/train.npz", "data.val=d/val.npz", *arrays[3:]]
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__enter__", enter)
        words = ["teacher=t", "student=resnet8", "student.options.width=2", "schedule.epochs=2", "threads=1"]
        status, _, err = mcld("distill", *data, *words, "method=kd", "data.batch_size=160", "run=run")
    assert status == 128 + signal.SIGTERM, err
    return RunDirectory(tmp_path / "run")


def test_from_another_working_directory(
    mcld: Mcld, stopped: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, _, err = mcld("resume", "../run")
    assert (status, err) == (0, "")
    assert mcld("evaluate", "../run")[0] == 0


def test_settings_that_were_edited(mcld: Mcld, stopped: RunDirectory) -> None:
    text = stopped.config.read_text()
    edited = text.replace("epochs: 2", "epochs: 3").replace("temperature: 4.0", "temperature: 2.0")
    stopped.config.write_text(edited)
    status, _, err = mcld("resume", "run")
    assert status == 2
    assert (
        "its settings changed since its last checkpoint: method.temperature was 4.0 and is 2.0; "
        "schedule.epochs was 2 and is 3; put them back in run/config.yaml" in err
    )
    assert err.count("\n") == 1
    stopped.config.write_text(text.replace("log_every: 50", "log_every: 5").replace("threads: 1", "threads: 2"))
    assert mcld("resume", "run")[0] == 0
    assert settings_from_yaml(stopped.config).log_every == 5


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.json", {"num_classes": 3, "classes": []}, "cannot go on: the network in model.json changed"),
        ("environment.json", {"inputs": None}, "cannot go on: the training data changed"),
        ("environment.json", {"inputs": [1]}, "cannot go on: the training data changed"),
        ("environment.json", {"inputs": {}}, "cannot go on: the training data changed"),
    ],
)
def test_files_that_were_edited(mcld: Mcld, stopped: RunDirectory, file: str, content: object, said: str) -> None:
    assert isinstance(content, dict)
    path = stopped.path / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))
    status, _, err = mcld("resume", "run")
    assert (status, err.count("\n")) == (2, 1)
    assert said in err
