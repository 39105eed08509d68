"""SimKD's student is a new network: it must come out of the run directory as it was trained."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import Mcld

from mcld.assembly.networks import load_run
from mcld.engine.checkpoint import list_checkpoints
from mcld.errors import InputError
from mcld.models import ModelSpec
from mcld.models.network import reuse_classifier

WORDS = ["student=resnet8", "student.options.width=4", "method=simkd", "schedule.epochs=2", "threads=1"]


@pytest.mark.usefixtures("both_checkpoints")
def test_the_run_directory_holds_the_network_that_was_trained(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    status, out, err = mcld("distill", *arrays, f"teacher={teacher}", *WORDS, "run=r")
    assert status == 0, err
    assert json.loads(Path("r/model.json").read_text())["reused"] == 64
    student, teachers = load_file("r/last.safetensors"), load_file(teacher / "last.safetensors")
    assert torch.equal(student["fc.4.weight"], teachers["fc.weight"])  # not even weight decay has touched it
    assert torch.equal(student["fc.4.bias"], teachers["fc.bias"])
    assert student["fc.0.weight"].shape == (64, 16)
    network = load_run("r").eval()
    assert network.spec.reused == 64
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    summary = json.loads(Path("r/summary.json").read_text())
    assert list(summary["curves"]).count("ce") == 0  # the labels are not used
    assert summary["curves"]["features"][1] < summary["curves"]["features"][0]
    status, out, err = mcld("evaluate", "r", "threads=1")
    assert status == 0, err
    assert f"{summary['last']['top1']:.2%}" in out
    # it is a teacher like any other, and a student again for the same teacher
    assert mcld("distill", *arrays, "teacher=r", "teacher.allow_near_chance=true", *WORDS, "run=s")[0] == 0
    assert mcld("distill", *arrays, f"teacher={teacher}", *WORDS[2:], "student=r", "run=t")[0] == 0
    # resuming builds the same network
    expected = load_file("r/last.safetensors")
    list_checkpoints(Path("r/checkpoints"))[0].unlink()
    assert mcld("resume", "r")[0] == 0
    torch.testing.assert_close(load_file("r/last.safetensors"), expected, rtol=0, atol=0)


def spec(name: str, **options: int) -> ModelSpec:
    return ModelSpec(name, 4, 3, [0.5] * 3, [0.5] * 3, image_size=[8, 8], options=options)


def test_another_teacher_is_refused() -> None:
    student = reuse_classifier(spec("resnet8", width=4).build(), spec("resnet8").build())
    assert [p.requires_grad for p in student.parameters()][-2:] == [False, False]
    message = "student resnet8 ends with a layer for 64 features of another teacher; expected 32, as of resnet8"
    with pytest.raises(InputError, match=message):
        reuse_classifier(student, spec("resnet8", width=8).build())


@pytest.mark.parametrize("name", ["timm/resnet10t", "torchvision/mobilenet_v3_small", "vgg8"])
def test_any_student(name: str) -> None:
    teacher = spec("resnet8").build().eval()
    student = reuse_classifier(spec(name).build(), teacher)
    again = ModelSpec.from_dict(student.spec.to_dict()).build()
    again.model.load_state_dict(student.model.state_dict())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again.eval()(images), student.eval()(images))
