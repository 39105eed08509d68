"""What all tests share."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the user's own cache is read or written, by child processes neither."""
    os.environ["MCLD_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def no_reports() -> None:
    """Runs end without drawing a page, which takes longer than most runs of the tests, in child processes too."""
    os.environ["MCLD_REPORT"] = "off"


@pytest.fixture
def reports(no_reports: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end with a page, as they do outside of the tests."""
    monkeypatch.delenv("MCLD_REPORT")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository; without it the test is skipped."""
    path = Path(os.environ.get("MCLD_SHARED", ROOT.parent / "shared"))
    if not (path / "data").is_dir():
        pytest.skip(f"the real data is not there: no folder {path / 'data'} (set MCLD_SHARED)")
    return path


@pytest.fixture(scope="session")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words for a small made-up data set: 8×8 colour images, each of the 4 classes with its own bright bar."""
    folder = tmp_path_factory.mktemp("arrays")
    rng = np.random.default_rng(0)
    words = ["data=arrays"]
    for split, count in (("train", 160), ("val", 60)):
        labels = np.arange(count) % 4
        images = rng.integers(0, 120, (count, 8, 8, 3))
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 2, :, label % 3] += 100
        file = folder / f"{split}.npz"
        np.savez(file, images=images.astype(np.uint8), labels=labels, names=np.array(["a", "b", "c", "d"]))
        words.append(f"data.{split}={file}")
    return [*words, "data.batch_size=32", "data.padding=0", "data.flip=true"]


Mcld = Callable[..., tuple[int, str, str]]


@pytest.fixture
def both_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run keeps the checkpoint before the last, too, as just before its end: a test can then go on from there."""
    monkeypatch.setattr("mcld.commands.run.keep_newest", lambda _: None)


@pytest.fixture
def mcld(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mcld:
    """Runs a command line in this process, in an empty folder: (exit status, what it printed, its errors)."""
    from mcld.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main(words)
        except SystemExit as exit:
            status = int(exit.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory, arrays: list[str]) -> Path:
    """A trained teacher for ``arrays``: its run directory."""
    from mcld.cli.main import main

    run = tmp_path_factory.mktemp("teacher") / "run"
    words = ["train", *arrays, "model=resnet8", "schedule.epochs=4", "threads=1", f"run={run}"]
    assert main(words) == 0
    return run
