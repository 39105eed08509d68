"""benchmarks/cifar100/gpu.py: what it runs, and what it takes from one machine to the next."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from mcld.bench.suite_file import read_suite

CIFAR100 = Path(__file__).resolve().parents[2] / "benchmarks" / "cifar100"


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("gpu", CIFAR100 / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    return module


def test_other_data_and_trials_have_places_of_their_own(gpu: Any) -> None:
    file = CIFAR100 / "gpu.yaml"
    assert gpu.suite_of(file, "cifar100", []) == file
    third = read_suite(str(gpu.suite_of(file, "cifar100-third", ["schedule.epochs=2"])))
    assert (str(third.out), str(third.keep)) == (
        "runs/cifar100-gpu-third-trial",
        "docs/results/cifar100/cells-gpu-third-trial",
    )
    for cell in third.cells():
        settings = cell.settings()
        assert settings.data.train == "data/cifar100-third/all.npz"
        assert settings.schedule.epochs == 2
        assert settings.data.batch_size == 64


def test_what_is_under_way_travels(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = gpu.suite_of(CIFAR100 / "gpu.yaml", "cifar100", ["schedule.epochs=2"])
    run = read_suite(str(suite)).cells()[0].run
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "epoch.ckpt").write_bytes(bytes(3000))
    (run / "metrics.csv").write_text("epoch,seconds\n1,2.5\n2,4.5\n")
    (run / "last.safetensors").write_bytes(bytes(10))
    gpu.speed(suite, 3)
    assert "| MCLD | 2 | 2.25 |" in (tmp_path / "runs/cifar100-gpu-trial/reports/gpu/speed.md").read_text()
    monkeypatch.setattr(gpu, "MOST", 3000)  # so that one pack does not hold all
    gpu.pack([suite], tmp_path / "out")
    assert len(list((tmp_path / "out").glob("state-*.tar"))) > 1
    for file in (run / "checkpoints" / "epoch.ckpt", run / "metrics.csv", run / "last.safetensors"):
        file.unlink()
    gpu.unpack(tmp_path / "out")
    assert (run / "checkpoints" / "epoch.ckpt").stat().st_size == 3000
    assert not (run / "last.safetensors").exists()
    monkeypatch.chdir(tmp_path / "out")
    with pytest.raises(SystemExit, match="was packed in"):
        gpu.unpack(tmp_path / "out")
