"""A network normalises for itself, is described by JSON, and writes pure weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from mcld.errors import InputError
from mcld.models import ModelSpec, Network, create_model, load_weights, save_weights

SPEC: dict[str, Any] = {
    "architecture": "resnet8",
    "num_classes": 3,
    "in_channels": 3,
    "options": {"width": 4},
    "classes": ["cat", "dog", "eel"],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "image_size": [8, 8],
    "reused": 0,
    "preprocessing": {"mode": "RGB", "resize": 8, "crop": [8, 8], "interpolation": "bilinear", "depth": None},
    "temperature": 1.5,
}


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return ModelSpec.from_dict(SPEC).build().eval()


def test_spec_survives_json() -> None:
    spec = ModelSpec.from_dict(SPEC)
    assert spec.to_dict() == SPEC
    earlier = {key: value for key, value in SPEC.items() if key not in ("preprocessing", "temperature")}
    assert ModelSpec.from_dict(earlier).to_dict() == {**SPEC, "preprocessing": {}, "temperature": None}
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    tuples = ModelSpec("resnet8", 3, 1, mean=(0.5,), std=(0.5,), classes=("a", "b", "c"))  # type: ignore[arg-type]
    assert tuples.mean == [0.5]
    assert tuples.classes == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("architecture", "", "architecture is ''; expected a model name"),
        ("num_classes", 0, "num_classes is 0; expected an integer"),
        ("num_classes", True, "num_classes is True"),
        ("in_channels", "3", "in_channels is '3'"),
        ("mean", [0.5], "mean is .*; expected a list of 3 finite numbers"),
        ("mean", [0.5, 0.5, float("nan")], "mean is .*finite"),
        ("std", [0.5, 0.5, 0], "std is .*; expected positive numbers"),
        ("classes", ["a", "b"], "classes is .*; expected a list of 3 names"),
        ("classes", [1, 2, 3], "classes is"),
        ("image_size", [8], "image_size is .*; expected \\[height, width\\]"),
        ("temperature", 0.0, "temperature is 0.0; expected a number above 0, or null"),
        ("preprocessing", {"depth": object()}, "preprocessing is .*; expected a dictionary of JSON values"),
        ("options", {"width": object()}, "options is .*; expected a dictionary of JSON values"),
        ("options", {1: 2}, "options is"),
        ("colour", 1, "unknown field 'colour'; expected architecture"),
    ],
)
def test_spec_names_the_bad_field(field: str, value: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ModelSpec.from_dict({**SPEC, field: value})


def test_spec_names_the_missing_field_and_other_kinds() -> None:
    with pytest.raises(InputError, match="lacks the field 'std'"):
        ModelSpec.from_dict({key: value for key, value in SPEC.items() if key != "std"})
    with pytest.raises(InputError, match="expected a dictionary"):
        ModelSpec.from_dict([])  # type: ignore[arg-type]


def test_pretrained_is_ignored_when_weights_follow() -> None:
    spec = ModelSpec("timm/resnet10t", 3, 1, [0.5], [0.5], options={"pretrained": True})
    assert isinstance(spec.build(pretrained=False), Network)  # would need a network otherwise
    assert spec.options == {"pretrained": True}


def test_normalises_bytes_and_floats_alike() -> None:
    net = network()
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    by_hand = images.double() / 255
    for channel in range(3):
        by_hand[:, channel] = (by_hand[:, channel] - SPEC["mean"][channel]) / SPEC["std"][channel]
    torch.testing.assert_close(net.normalize(images), by_hand.float())
    assert torch.equal(net(images), net(images.float() / 255))
    assert torch.equal(net(images), net.model(net.normalize(images)))
    assert net(images).shape == (2, 3)


def test_normalisation_is_no_part_of_the_weights() -> None:
    net = network()
    assert all(key.startswith("model.") for key in net.state_dict())
    assert net.to(torch.bfloat16)(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3, 8, 8)])
def test_refuses_other_channels(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="resnet8 expects \\(B, 3, height, width\\)"):
        network()(torch.zeros(shape))


def test_refuses_integers_that_are_no_bytes() -> None:
    with pytest.raises(InputError, match=r"images are torch.int64; expected uint8"):
        network()(torch.zeros(1, 3, 8, 8, dtype=torch.int64))


def test_weights_go_out_pure_and_come_back(tmp_path: Path) -> None:
    net, file = network(), tmp_path / "student.safetensors"
    wrapped = [net, net.model, torch.compile(net.model), torch.compile(net), nn.DataParallel(net)]
    for model in wrapped:
        assert isinstance(model, nn.Module)
        save_weights(model, file)
        with safe_open(file, "pt") as content:
            assert set(content.keys()) == set(create_model("resnet8", 3, width=4).state_dict())
    wrappers: list[Callable[[nn.Module], Any]] = [lambda model: model, torch.compile, nn.DataParallel]
    for seed, wrap in enumerate(wrappers, start=1):
        other = network(seed)
        load_weights(wrap(other), file)
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["student.safetensors"]


def test_half_precision_is_kept(tmp_path: Path) -> None:
    net = network().to(torch.float16)
    save_weights(net, tmp_path / "w")
    load_weights(other := network(1).to(torch.float16), tmp_path / "w")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_damaged_weights_change_nothing(tmp_path: Path) -> None:
    net, file = network(), tmp_path / "w.safetensors"
    save_weights(net, file)
    whole, before = file.read_bytes(), {k: v.clone() for k, v in net.state_dict().items()}
    header = int.from_bytes(whole[:8], "little") + 8
    damaged = [whole[:n] for n in (0, 5, 8, 9, header // 2, header, len(whole) // 2, len(whole) - 1)]
    damaged += [whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :] for at in range(0, 200, 10)]
    errors = []
    for content in damaged:
        file.write_bytes(content)
        try:
            load_weights(net, file)
        except InputError as error:
            errors.append(str(error))
            assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    # A flipped bit in the JSON may be harmless (a space, a spare field), but nearly all are not.
    assert len(errors) >= len(damaged) - 2
    assert not any("\n" in error for error in errors)
    with pytest.raises(InputError, match=r"cannot read .*nowhere"):
        load_weights(net, tmp_path / "nowhere")
    file.write_bytes(whole)
    with pytest.raises(InputError, match="does not fit the model"):
        load_weights(create_model("resnet14", 3, width=4), file)
