"""Where the numbers of a run go: each place, offline, over an interruption, and when it fails."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mcld import Logger
from mcld.engine.stop import StopRequest
from mcld.loggers import Logs
from mcld.loggers.wandb import WandB
from mcld.registry import REGISTRIES, register_logger
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]
Row = Mapping[str, float]
TINY = ["model=resnet8", "model.options.width=2", "schedule.epochs=2", "threads=1", "data.batch_size=160", "run=run"]


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    yield
    for registry in REGISTRIES.values():
        for name in registry.registered():
            registry.remove(name)


def curve(run: Path, name: str) -> list[tuple[int, float]]:
    return [(int(row["epoch"]), row[name]) for row in RunDirectory(run).read_metrics()]


def mlflow_curve(run: Path, name: str) -> list[tuple[int, float]]:
    client = MlflowClient((run / "logs" / "mlflow" / "store").absolute().as_uri())
    experiment = client.get_experiment_by_name("mcld")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["schedule.epochs"] == "2"
    return [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, name)]


def test_two_at_once_without_a_network_and_over_an_interruption(
    mcld: Mcld, arrays: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(self: StopRequest) -> StopRequest:
        self.signal = signal.SIGTERM
        return self

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__enter__", enter)
        assert mcld("train", *arrays, *TINY, "logger=[tensorboard,mlflow]")[0] == 128 + signal.SIGTERM
    status, out, err = mcld("resume", "run")
    assert (status, err) == (0, "")
    assert "warning" not in out
    run = tmp_path / "run"
    points = curve(run, "val_top1")
    assert [step for step, _ in points] == [1, 2]
    assert mlflow_curve(run, "val_top1") == points
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("val_top1")]
    assert [step for step, _ in found] == [1, 2]
    assert [value for _, value in found] == pytest.approx([value for _, value in points])
    assert mcld("train", *arrays, *TINY, "logger=csv", "--force")[0] == 0
    assert curve(run, "val_top1")
    assert not (run / "tensorboard").exists()
    assert not (run / "logs").exists()


def test_weights_and_biases_offline(tmp_path: Path) -> None:
    rows = [{"epoch": float(n), "val_top1": n / 10} for n in (1, 2, 3)]
    folder = tmp_path / "logs" / "wandb"
    logger = WandB(project="mine", mode="offline")
    logger.start(Logs(tmp_path, folder, {"seed": 3}, rows[:1]))
    assert (logger.run.project, dict(logger.run.config)["seed"]) == ("mine", 3)
    logger.log(rows[1])
    first = logger.run.id
    logger.finish(complete=False)
    again = WandB(mode="offline")
    again.start(Logs(tmp_path, folder, {"seed": 3}, rows[:2]))  # which are there already
    again.log(rows[2])
    assert again.run.id == first
    again.finish(complete=True)
    assert json.loads((folder / "state.json").read_text()) == {"id": first, "epochs": 3}
    files = [file for file in folder.rglob("run-*.wandb") if first in file.name]
    assert len(files) == 2
    until = time.monotonic() + 30  # its own process writes them
    while not all(file.read_bytes().count(b"val_top1") for file in files):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_logger_of_ones_own_and_its_options(mcld: Mcld, arrays: list[str], tmp_path: Path) -> None:
    @register_logger("lines")
    class Lines(Logger):
        """Lines in a file."""

        file: str = "lines.txt"

        def start(self, logs: Logs) -> None:
            self.path = logs.run / self.file

        def log(self, row: Row) -> None:
            with self.path.open("a") as file:
                file.write(f"{row['epoch']:g}\n")

    status, _, err = mcld("train", *arrays, *TINY, "logger=[csv,lines]", "logger.lines.file=own.txt")
    assert (status, err) == (0, "")
    assert (tmp_path / "run" / "own.txt").read_text() == "1\n2\n"
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert "file: own.txt" in text


@pytest.mark.parametrize("when", ["start", "log", "finish"])
def test_a_logger_that_fails_ends_itself_and_not_the_run(
    mcld: Mcld, arrays: list[str], tmp_path: Path, when: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("the server\nis away")

    @register_logger("broken")
    class Broken(Logger):
        def log(self, row: Row) -> None:
            pass

    setattr(Broken, when, fail)
    status, out, _ = mcld("train", *arrays, *TINY, "logger=[broken,tensorboard]")
    assert status == 0
    assert out.count("warning: the logger broken failed and is left out from now on (OSError: the server is away)") == 1
    assert len(curve(tmp_path / "run", "val_top1")) == 2
    assert (tmp_path / "run" / "tensorboard").is_dir()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("logger=tensorbord", "logger=tensorbord: there is no logger 'tensorbord'; did you mean 'tensorboard'?"),
        ("logger=[csv,csv]", "a logger is named twice"),
        ("logger=wandb logger.wandb.mode=off", "mode is 'off'; expected one of online, offline"),
        ("logger.wandb.mode=offline", "there is no setting 'logger.wandb.mode'"),
    ],
)
def test_bad_settings_are_one_line(mcld: Mcld, arrays: list[str], tmp_path: Path, word: str, said: str) -> None:
    status, _, err = mcld("train", *arrays, *TINY, *word.split())
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_package_that_is_not_there(
    mcld: Mcld, arrays: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WandB, "needs", "wandb_not_here")
    status, _, err = mcld("train", *arrays, *TINY, "logger=wandb")
    assert status == 2
    assert err == (
        "mcld: logger=wandb needs the package wandb_not_here, which is not installed: pip install 'mcld[wandb]'\n"
    )
    assert not (tmp_path / "run").exists()
