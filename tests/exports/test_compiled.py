"""The formats that hold the whole computation: what they answer, what they refuse, and use.py."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

import mcld
from mcld.assembly.networks import load_run
from mcld.commands.export import export_run
from mcld.errors import InputError, RunError
from mcld.exports import Export, Job, Runner
from mcld.exports._use import use_script
from mcld.exports._weights import Weights
from mcld.exports.onnx import Onnx
from mcld.exports.onnx_int8 import _candidates
from mcld.exports.openvino import PRECISE
from mcld.exports.safetensors import Safetensors
from mcld.exports.torch import TorchProgram
from mcld.models import ModelSpec, Network
from mcld.registry import EXPORTS

Mcld = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    for name in EXPORTS.registered():
        EXPORTS.remove(name)


@pytest.fixture(scope="module")
def exported(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with the teacher as ONNX, and what was said."""
    folder = tmp_path_factory.mktemp("onnx") / "export"
    said: list[str] = []
    file = export_run(str(teacher), "onnx", out=str(folder), threads=1, tell=said.append)
    assert file == folder / "model.onnx"
    return folder, said


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo that lies on its side, as its EXIF orientation says."""
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 3)).astype(np.uint8)
    pixels[:9, :, 0] = 255
    file = tmp_path_factory.mktemp("photo") / "photo.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(file, exif=exif)
    return file


def _images(n: int, size: int = 8) -> Tensor:
    return torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def test_onnx_takes_raw_images_in_batches_of_any_size(teacher: Path, exported: tuple[Path, list[str]]) -> None:
    folder, said = exported
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "model.onnx.json", "use.py"]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    assert [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()] == [("images", "tensor(uint8)", [8, 8, 3])]
    network = load_run(str(teacher)).eval()
    for n in (1, 2, 7):
        logits, probabilities = session.run(
            ["logits", "probabilities"], {"images": _images(n).permute(0, 2, 3, 1).numpy()}
        )
        with torch.no_grad():
            expected = network(_images(n))
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    about = json.loads(session.get_modelmeta().custom_metadata_map["mcld"])
    assert about["classes"] == ["a", "b", "c", "d"]
    assert (about["mean"], about["crop"], about["resize"], about["mode"]) == (network.spec.mean, [8, 8], 8, "RGB")
    assert json.loads(session.get_modelmeta().custom_metadata_map["std"]) == network.spec.std
    found = json.loads((folder / "model.onnx.json").read_text())
    top1 = json.loads((teacher / "summary.json").read_text())["last"]["top1"]
    assert [row["top1"] for row in found["rows"]] == pytest.approx([top1, top1])
    assert found["rows"][1]["difference"] < found["allowed"]["difference"]
    assert any(line.startswith("onnx export") and f"{top1:.2%}" in line for line in said)


def test_use_answers_as_the_network_does_where_there_is_no_torch(
    teacher: Path, exported: tuple[Path, list[str]], photo: Path
) -> None:
    folder, _ = exported
    script = (folder / "use.py").read_text()
    assert len([line for line in script.splitlines()[1:] if line]) <= 18
    forbid = (
        "import runpy, sys\n"
        "class Forbid:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision', 'mcld', 'onnx', 'timm'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Forbid())\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    )
    command = [sys.executable, "-c", forbid, str(folder / "use.py"), str(folder / "model.onnx"), str(photo)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert _told(found.stdout) == _expected(load_run(str(teacher)), photo, resize=8)


def _temperature(network: Network) -> float:
    return getattr(network.spec, "temperature", None) or 1.0


def _told(line: str) -> list[str]:
    """The fields of a line of use.py, but for classes of no share, whose order is nobody's."""
    return [field for field in line.removesuffix("\n").split("\t") if not field.endswith(" 0.0%")]


def _expected(network: Network, photo: Path, resize: int, temperature: float | None = None) -> list[str]:
    image = v2.Compose([v2.Resize(resize), v2.CenterCrop(8)])(
        Image.open(photo).transpose(Image.Transpose.ROTATE_270).convert("RGB")
    )
    with torch.no_grad():
        logits = network.eval()(v2.functional.pil_to_tensor(image)[None])[0]
    shares, order = (logits / (temperature or _temperature(network))).softmax(dim=0).sort(descending=True)
    named = [f"{network.spec.classes[i]} {p:.1%}" for p, i in zip(shares[:3], order[:3], strict=True)]
    return [str(photo), *(field for field in named if not field.endswith(" 0.0%"))]


@pytest.mark.parametrize("preprocess", [True, False])
def test_resize_temperature_and_normalisation_are_the_networks(
    teacher: Path, tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, preprocess: bool
) -> None:
    network = load_run(str(teacher)).eval()
    job = Job(network, (8, 8), resize=11, preprocess=preprocess, temperature=2.5)
    Onnx().write(job, tmp_path)
    monkeypatch.setattr(sys, "argv", ["use.py", str(tmp_path / "model.onnx"), str(photo)])
    exec(use_script(job), {})
    assert _told(capsys.readouterr().out) == _expected(network, photo, resize=11, temperature=2.5)
    sizes = onnx.load(tmp_path / "model.onnx").graph.input[0].type.tensor_type
    assert sizes.elem_type == (onnx.TensorProto.UINT8 if preprocess else onnx.TensorProto.FLOAT)


def test_images_that_are_no_squares_are_covered() -> None:
    job = Job(Network(torch.nn.Identity(), ModelSpec("resnet8", 4, 3, [0.5] * 3, [0.5] * 3)), (8, 16), resize=8)
    assert 'scale = max(about["resize"] / min(image.size), width / image.width' in use_script(job)
    compile(use_script(job), "use.py", "exec")


@pytest.mark.slow
def test_use_runs_in_a_fresh_environment(
    teacher: Path, exported: tuple[Path, list[str]], photo: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "fresh", with_pip=True)
    python = str(tmp_path / "fresh" / "bin" / "python")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime", "numpy", "Pillow"], check=True, env=clean)
    absent = subprocess.run([python, "-c", "import torch"], env=clean, capture_output=True, check=False)
    assert absent.returncode != 0
    folder, _ = exported
    command = [python, str(folder / "use.py"), str(folder / "model.onnx"), str(photo)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=clean)
    assert _told(found.stdout) == _expected(load_run(str(teacher)), photo, resize=8)


def test_torch_runs_without_the_code_of_the_network(teacher: Path, tmp_path: Path) -> None:
    file = mcld.export(teacher, format="torch", out=tmp_path / "x", quiet=True, threads=1)
    module = torch.export.load(file).module()
    network = load_run(str(teacher)).eval()
    for n in (1, 5):
        logits, probabilities = module(_images(n).permute(0, 2, 3, 1).contiguous())
        with torch.no_grad():
            torch.testing.assert_close(logits, network(_images(n)), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(probabilities, (logits / _temperature(network)).softmax(dim=1))


def test_int8_is_in_integers_and_tells_what_it_costs(mcld: Mcld, teacher: Path, tmp_path: Path) -> None:
    status, out, err = mcld("export", str(teacher), "--format", "onnx-int8", "--out", "x", "--threads", "1")
    assert status == 0, err
    graph = onnx.load(tmp_path / "x" / "model.int8.onnx").graph
    weights = [i for i in graph.initializer if i.data_type == onnx.TensorProto.INT8 and len(i.dims) == 4]
    assert len(weights) >= 5
    assert all(abs(onnx.numpy_helper.to_array(w).astype(int)).max() <= 64 for w in weights)  # 7 bits
    assert "layers in integers" in out
    assert "calibrated on 80 training images" in out
    assert re.search(r"top-1 is (the same as|\d\.\d\d points (lower|higher) than) in PyTorch", out)
    found = json.loads((tmp_path / "x" / "model.int8.onnx.json").read_text())
    assert found["rows"][1]["agreement"] >= 0.9
    assert found["rows"][1]["difference"] > 1e-3


def test_layers_are_left_in_float_a_few_at_first() -> None:
    names = [f"n{i}" for i in range(16)]
    found = _candidates(names, names[::-1])
    assert found == [["n0", "n15"], ["n0", "n15", "n14"], ["n0", "n15", "n14", "n13", "n12"], found[3]]
    assert len(found[3]) == 9


@pytest.mark.slow
def test_openvino_answers_as_the_network_does(teacher: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is an extra")
    file = mcld.export(teacher, format="openvino", out=tmp_path / "x", quiet=True)
    found = openvino.Core().compile_model(file, "CPU", PRECISE)(_images(3).permute(0, 2, 3, 1).numpy())
    with torch.no_grad():
        np.testing.assert_allclose(found["logits"], load_run(str(teacher)).eval()(_images(3)), atol=1e-4)


def test_a_format_whose_package_is_absent_says_how_to_get_it(
    mcld: Mcld, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "openvino" else real(name, *rest)
    )
    status, _, err = mcld("export", str(teacher), "--format", "openvino", "--out", "x")
    assert (status, err.count("\n")) == (2, 1)
    assert "needs the package openvino, not installed here: pip install 'mcld[openvino]'" in err


class _Wrong(Safetensors):
    """A format that answers otherwise."""

    by = 1.0

    def open(self, job: Job, folder: Path, threads: int) -> Runner:
        run = super().open(job, folder, threads)
        return lambda images: (run(images)[0].roll(1, dims=1) * self.by, None)


def test_an_export_that_does_not_agree_is_refused_with_the_figures(
    mcld: Mcld, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mcld as package

    package.register_export("wrong")(_Wrong)
    for by, said in ((1.0, "logits differ by up to"), (float("nan"), "it answers NaN or Inf")):
        monkeypatch.setattr(_Wrong, "by", by)
        status, _, err = mcld("export", str(teacher), "--format", "wrong", "--out", "x")
        assert (status, err.count("\n")) == (1, 1)
        assert "the wrong export was refused, and nothing was written" in err
        assert said in err
        assert not Path("x").exists()
    monkeypatch.setattr(_Wrong, "exact", False)
    monkeypatch.setattr(_Wrong, "by", 1.0)
    with pytest.raises(RunError, match=r"of 60 images \d+\.\d% have the same class .* the same class for at least 90%"):
        export_run(str(teacher), "wrong", out="x")


def test_a_format_of_somebody_else_is_a_class() -> None:
    with pytest.raises(InputError, match=r"expected a subclass of mcld.Export"):
        mcld.register_export("mine")(int)

    @mcld.register_export("mine")
    class Mine(Weights):
        """Mine, in one line."""

    assert (EXPORTS.get("mine"), Mine.title) == (Mine, "Mine, in one line")
    ours = {"onnx", "onnx-int8", "openvino", "torch", "safetensors", "repdistiller"}
    assert {*EXPORTS.names()} == {*ours, "mine"}
    assert all(
        issubclass(kind, Export) and kind.files and kind.title for name, kind in EXPORTS.items().items() if name in ours
    )


class _Asks(torch.nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        pooled = images.mean(dim=(2, 3))
        return pooled if pooled.sum() > 0 else -pooled


@pytest.mark.parametrize("form", [Onnx, TorchProgram])
def test_a_network_that_cannot_be_exported_says_why_in_one_line(form: type[Export], tmp_path: Path) -> None:
    job = Job(Network(_Asks(), ModelSpec("object/Asks", 3, 3, [0.5] * 3, [0.5] * 3)), (8, 8), 8)
    with pytest.raises(InputError, match=r"object/Asks cannot be exported as (onnx|torch): \w+") as caught:
        form().write(job, tmp_path)
    assert len(str(caught.value)) < 500
    assert not list(tmp_path.iterdir())


def test_without_its_data_a_run_is_compared_on_random_images(mcld: Mcld, teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / "run", ignore=shutil.ignore_patterns("export*"))
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("val.npz", "gone.npz"))
    status, out, _ = mcld("export", "run", "--format", "safetensors")
    assert status == 0
    assert "warning: accuracy is not measured, and the comparison is on 64 random images" in out
    assert "not measured" in out
    assert json.loads((tmp_path / "run/export/model.safetensors.json").read_text())["rows"][1]["top1"] is None
    status, _, err = mcld("export", "run", "--format", "onnx-int8")
    assert (status, err.count("\n")) == (2, 1)
    assert "calibrated on the run's training images, which are not at hand" in err
