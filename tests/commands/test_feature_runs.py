"""Runs with methods that read features, second views, or have parts of their own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import Mcld
from torch import Tensor

from mcld import Distiller
from mcld.assembly.parts import build_parts
from mcld.configs.compose import compose
from mcld.engine.checkpoint import list_checkpoints
from mcld.methods import Method, Outputs, Terms, list_methods, method_class
from mcld.models import create_model
from mcld.runs import RunDirectory

# SimKD, whose student is another network, has tests of its own
NAMES = [n for n in list_methods() if method_class(n).family in ("features", "relations") and n != "simkd"]
SMALL = {"crd": ["method.negatives=16", "method.dim=8"]}


def words(arrays: list[str], teacher: Path, name: str, *more: str) -> list[str]:
    student = ["student=resnet8", "student.options.width=4", "schedule.epochs=1", "threads=1", "schedule.lr=0.01"]
    return [*arrays, f"teacher={teacher}", *student, f"method={name}", *SMALL.get(name, []), *more]


@pytest.mark.parametrize("name", [*NAMES, "ctkd", "eakd", "sdd", "wkd"])
def test_every_method_distils(mcld: Mcld, arrays: list[str], teacher: Path, name: str) -> None:
    status, _, err = mcld("distill", *words(arrays, teacher, name), "run=r")
    assert status == 0, err
    header, row = (line.split(",") for line in Path("r/metrics.csv").read_text().splitlines())
    terms = header[header.index("loss") + 1 : header.index("train_top1")]
    assert terms[0] == "ce"
    assert len(terms) > 1
    values = dict(zip(header, row, strict=True))
    assert all(float(values[term]) != 0 for term in terms)
    model = create_model("resnet8", num_classes=4, width=4)
    weights = load_file("r/last.safetensors")
    assert weights.keys() == model.state_dict().keys()  # nothing of the method's


@pytest.mark.parametrize("name", ["crd", "reviewkd", "ofd", "ctkd"])
@pytest.mark.usefixtures("both_checkpoints")
def test_resumed_runs_end_as_if_never_interrupted(mcld: Mcld, arrays: list[str], teacher: Path, name: str) -> None:
    assert mcld("distill", *words(arrays, teacher, name, "schedule.epochs=3"), "run=r")[0] == 0
    run = RunDirectory("r")
    newest = list_checkpoints(run.checkpoints)[0]
    expected = torch.load(newest, weights_only=True)
    newest.unlink()  # back to the end of the second epoch
    status, out, err = mcld("resume", "r")
    assert status == 0, err
    assert "going on with epoch 3" in out
    found = torch.load(list_checkpoints(run.checkpoints)[0], weights_only=True)
    for part in ("student", "method"):
        torch.testing.assert_close(found[part], expected[part], rtol=0, atol=0)


def test_the_first_student_and_the_data_are_the_same_for_every_method(arrays: list[str], teacher: Path) -> None:
    states = []
    for name in ("kd", "fitnet", "crd"):
        parts = build_parts(compose("distill", words(arrays, teacher, name, "seed=7")))
        states.append((parts.student.state_dict(), torch.rand(3)))
    for state, draws in states[1:]:
        torch.testing.assert_close(state, states[0][0], rtol=0, atol=0)
        assert torch.equal(draws, states[0][1])


def test_modules_are_named_on_the_command_line(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    maps = ["teacher.maps=[layer2,layer3]", "student.maps=[layer2,layer3]", "method.stage=1"]
    assert mcld("distill", *words(arrays, teacher, "fitnet", *maps), "run=r")[0] == 0
    status, _, err = mcld("distill", *words(arrays, teacher, "fitnet", "student.maps=[layer4]"), "run=s")
    assert status == 2
    assert "student.maps: student resnet8 has no module 'layer4'; did you mean" in err
    assert not Path("s").exists()


@pytest.mark.parametrize("method", ["catkd", "sdd", "[kd,catkd]"])
def test_what_only_outputs_tell_is_refused_before_anything_is_written(
    mcld: Mcld, arrays: list[str], teacher: Path, method: str
) -> None:
    student = ["student=wrn_16_1", "schedule.epochs=1", "threads=1"]
    for more in ([], ["--dry-run"]):
        status, _, err = mcld("distill", *arrays, f"teacher={teacher}", *student, f"method={method}", "run=r", *more)
        assert (status, err.count("\n")) == (2, 1)
        assert "the student's classifier does not read the average of its last maps (1, 64, 2, 2)" in err
        assert not Path("r").exists()
    assert mcld("distill", *arrays, f"teacher={teacher}", *student, f"method={method}", "student.maps=[relu]")[0] == 0


def test_two_processes_train_the_same_network_as_one(tmp_path: Path, arrays: list[str], teacher: Path) -> None:
    # a student without batch normalisation, which would normalise each process's share by itself
    student = ["img_size=8", "patch_size=2", "embed_dim=16", "depth=2", "num_heads=2"]
    # CAT-KD's classifier reads the average of the last maps: no class token, and no normalisation after them
    student += ["class_token=false", "global_pool=avg", "fc_norm=false"]
    command = [
        *(sys.executable, "-m", "mcld", "distill", *arrays, f"teacher={teacher}"),
        *("student=timm/vit_tiny_patch16_224", *(f"student.options.{option}" for option in student)),
        f"method=[{','.join(NAMES)}]",
        "student.maps=[blocks.0,norm]",
        *("method.crd.negatives=16", "method.weights.sp=0.01", "method.reviewkd.warmup=0"),
        *("method.reviewkd.preactivation=none", "method.ofd.preactivation=none"),
        *("schedule.epochs=1", "schedule.lr=0.001", "optimizer.clip=1"),
    ]
    runs = {}
    for devices in (1, 2):
        runs[devices] = RunDirectory(tmp_path / str(devices))
        words = [*command, f"devices={devices}", "threads=1", f"run={runs[devices].path}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = (load_file(runs[devices].weights("last")) for devices in (1, 2))
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], atol=2e-5, rtol=1e-3)
    one, two = (torch.load(list_checkpoints(runs[d].checkpoints)[0], weights_only=True)["method"] for d in (1, 2))
    torch.testing.assert_close(
        dict(two), dict(one), atol=1e-4, rtol=1e-3
    )  # projections, their statistics, banks, margins


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["method=mlkd"], "horizontal flip; second view: crop 8, padding 0, horizontal flip, rand augment"),
        (["method=[mcld,sld]"], "horizontal flip; second view: crop 8, padding 0, horizontal flip, rand augment"),
        (
            ["method=mlkd", "method.as_published=true"],
            "second view: crop 8, padding 0, horizontal flip, fixmatch augment",
        ),
        (["method=mlkd", "data.second_policy=none"], "crop 8, padding 0, horizontal flip\n"),
        (["method=mlkd", "data.policy=rand"], "crop 8, padding 0, horizontal flip, rand augment\n"),
        (["method=mlkd", "data.augment=false"], "4 classes, 8×8 px, 3 channels; crop 8, padding 0\n"),
        (["method=kd"], "crop 8, padding 0, horizontal flip\n"),
    ],
)
def test_the_second_view_of_a_method_that_takes_two(
    mcld: Mcld, arrays: list[str], teacher: Path, words: list[str], shown: str
) -> None:
    common = [*arrays, f"teacher={teacher}", "student=resnet8", "threads=1", "--dry-run"]
    status, out, err = mcld("distill", *common, *words)
    assert status == 0, err
    assert shown in out


def test_a_second_view_that_no_method_takes(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    words = [*arrays, f"teacher={teacher}", "student=resnet8", "method=kd", "data.second_policy=rand"]
    status, _, err = mcld("distill", *words)
    assert status == 2
    assert "data.second_policy=rand: the method shows one view of each image; expected null" in err


class Seen(Method):
    """Keeps what it was given."""

    title = "for the test"
    views = 2
    requires_global_batch = False

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        assert isinstance(student, Outputs)
        assert isinstance(teacher, Outputs)
        self.seen = (student, teacher)
        return {"zero": student.logits.sum() * 0}


def test_two_views_reach_the_method_and_cross_entropy_sees_the_first() -> None:
    network = create_model("resnet8", 4, width=4).eval()
    method = Seen()
    distiller = Distiller(network, method=method)
    images, labels = torch.rand(5, 2, 3, 8, 8), torch.arange(5) % 4
    teacher = Outputs(torch.zeros(5, 4), other=Outputs(torch.ones(5, 4)))
    _, terms, logits = distiller(images, labels, index=torch.arange(5), teacher_logits=teacher)
    torch.testing.assert_close(logits, network(images[:, 0]))
    torch.testing.assert_close(terms["ce"], torch.nn.functional.cross_entropy(logits, labels))
    student, given = method.seen
    assert student.other is not None
    torch.testing.assert_close(student.other.logits, network(images[:, 1]))
    assert given is teacher
