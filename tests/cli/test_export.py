import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mcld import create_model, load_checkpoint
from mcld.assembly.networks import load_run
from mcld.models import ModelSpec, Network
from mcld.models.export import export_network

Mcld = Callable[..., tuple[int, str, str]]


def _equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return list(one) == list(two) and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("weights", ["last", "best"])
def test_repdistiller_is_read_back_by_its_own_way_and_by_ours(
    mcld: Mcld, teacher: Path, tmp_path: Path, weights: str
) -> None:
    status, out, _ = mcld("export", str(teacher), "--layout", "repdistiller", "--weights", weights, "--out", "t.pth")
    assert status == 0
    assert 'model_dict["resnet8"](num_classes=4)' in out
    ours = load_run(str(teacher), weights).model
    there = create_model("resnet8", num_classes=4)
    there.load_state_dict(torch.load(tmp_path / "t.pth", weights_only=True)["model"])
    assert _equal(ours, there)
    here = create_model("resnet8", num_classes=4)
    load_checkpoint(here, tmp_path / "t.pth")
    assert _equal(ours, here)


def test_plain_holds_all_that_rebuilds_the_network(mcld: Mcld, teacher: Path, tmp_path: Path) -> None:
    assert mcld("export", str(teacher), "--layout", "plain", "--out", "plain")[0] == 0
    spec = ModelSpec.from_dict(json.loads((tmp_path / "plain" / "model.json").read_text()))
    made = spec.build()
    load_checkpoint(made, tmp_path / "plain" / "model.safetensors")
    ours = load_run(str(teacher))
    assert spec == ours.spec
    assert _equal(ours.model, made.model)


def test_without_a_name_it_is_beside_the_run(mcld: Mcld, teacher: Path) -> None:
    assert mcld("export", str(teacher), "--layout", "repdistiller")[0] == 0
    assert (teacher.parent / f"{teacher.name}-last.pth").is_file()


@pytest.mark.parametrize(("layout", "file"), [("repdistiller", "x"), ("plain", "x/model.json")])
def test_nothing_is_replaced_without_force(mcld: Mcld, teacher: Path, tmp_path: Path, layout: str, file: str) -> None:
    words = ("export", str(teacher), "--layout", layout, "--out", "x")
    assert mcld(*words)[0] == 0
    (tmp_path / file).write_text("mine")
    status, _, err = mcld(*words)
    assert status == 2
    assert "--force" in err
    assert (tmp_path / file).read_text() == "mine"
    assert mcld(*words, "--force")[0] == 0
    assert (tmp_path / file).read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("architecture", "channels", "options"),
    [("resnet8", 1, {}), ("resnet8", 3, {"width": 8}), ("resnet20_a", 3, {}), ("timm/vit_tiny_patch16_224", 3, {})],
)
def test_networks_that_those_code_bases_do_not_have_are_refused(
    tmp_path: Path, architecture: str, channels: int, options: dict[str, int]
) -> None:
    mean = [0.5] * channels
    network = Network(torch.nn.Identity(), ModelSpec(architecture, 4, channels, mean, mean, options=options))
    with pytest.raises(ValueError, match=r"have no .*--layout plain"):
        export_network(network, "repdistiller", tmp_path / "x.pth")
    assert not list(tmp_path.iterdir())


def test_a_student_with_its_teachers_classifier_is_refused(tmp_path: Path) -> None:
    mean = [0.5] * 3
    network = ModelSpec("resnet8", 4, 3, mean, mean, reused=8).build()
    with pytest.raises(ValueError, match="a teacher's classifier"):
        export_network(network, "repdistiller", tmp_path / "x.pth")
    assert export_network(network, "plain", tmp_path / "x")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "--layout", "plain"], "nowhere: no such run directory"),
        (["RUN", "--layout", "onxn"], "--layout onxn"),
        (["RUN"], "--layout"),
        (["RUN", "--layout", "plain", "--weights", "mean"], "weights='mean'"),
        (["RUN", "--layout", "plain", "--out", "no/folder"], "there is no folder no"),
        (["RUN", "--layout", "repdistiller", "--out", "."], "is a folder"),
    ],
)
def test_bad_input_is_one_line(mcld: Mcld, teacher: Path, words: list[str], said: str) -> None:
    status, _, err = mcld("export", *(str(teacher) if word == "RUN" else word for word in words))
    assert status == 2
    assert said in err
    assert err.count("\n") == 1


def test_a_place_that_no_file_system_has_is_refused(mcld: Mcld, teacher: Path) -> None:
    status, _, err = mcld("export", str(teacher), "--layout", "plain", "--out", "x" * 300)
    assert status == 2
    assert "x: File name too long; choose another" in err
