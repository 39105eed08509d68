"""On a CUDA device everything works as on the CPU; skipped where there is none."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.methods import feature_outputs as features
from torch import Tensor

from mcld import create_method
from mcld.assembly.parts import build_parts
from mcld.commands.run import launch
from mcld.configs.compose import compose
from mcld.contrast import FORMS, Contrast, Relation, contrast, force_form
from mcld.display import Display
from mcld.engine.checkpoint import list_checkpoints
from mcld.engine.loop import Loop
from mcld.engine.ranks import live_teacher
from mcld.engine.stop import StopRequest
from mcld.methods import Method, Outputs, Shapes, list_methods, method_class
from mcld.runs import RunDirectory

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")

Mcld = Callable[..., tuple[int, str, str]]
LOGITS = [name for name in list_methods() if method_class(name).needs == {"logits"}]
SMALL = ["student=resnet8", "student.options.width=4", "threads=1", "schedule.epochs=4", "data.batch_size=16"]


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Inside, whatever makes the CPU wait for the device raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def logit_loss(method: Method, device: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """The sum of a method's terms on fixed logits, and its gradient; on the CPU both."""
    g = torch.Generator().manual_seed(0)
    student, teacher, *others = (torch.randn(24, 6, generator=g, dtype=torch.float64).to(device, dtype) for _ in "1234")
    labels, index = (torch.arange(24, device=device) % 6, torch.arange(24, device=device))
    student.requires_grad_()
    pair = [Outputs(student), Outputs(teacher)]
    if method.views == 2:
        pair = [Outputs(one, other=Outputs(other)) for one, other in zip((student, teacher), others, strict=True)]
    method = method.to(device)
    method.check_values = False
    loss = torch.stack(list(method(*pair, labels, 0.5, index).values())).sum()
    (gradient,) = torch.autograd.grad(loss, student)
    return loss.detach().cpu(), gradient.cpu()


@pytest.mark.parametrize("name", LOGITS)
def test_logit_methods_give_the_same(name: str) -> None:
    methods = [create_method(name) for _ in range(2)]
    for method in methods:
        method.prepare(Shapes(6), Shapes(6), 100, 10)
        method.double()
    there, here = logit_loss(methods[0], "cuda"), logit_loss(methods[1], "cpu")
    torch.testing.assert_close(there, here, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*LOGITS, "mcld of the batch's classes"])
def test_logit_methods_do_not_wait(name: str) -> None:
    method = create_method(name.split()[0], **({"category": {"form": "prototypes"}} if " " in name else {}))
    method.prepare(Shapes(6), Shapes(6), 100, 10)
    method.cuda().train().check_values = False
    s, t = (torch.randn(24, 6, device="cuda", requires_grad=grad) for grad in (True, False))
    other = (torch.randn(24, 6, device="cuda") for _ in "12")
    pair = [
        Outputs(x, other=Outputs(y)) if method.views == 2 else Outputs(x) for x, y in zip((s, t), other, strict=True)
    ]
    labels, index = torch.arange(24, device="cuda") % 6, torch.arange(24, device="cuda")

    def step() -> None:
        torch.autograd.backward(torch.stack(list(method(*pair, labels, 0.5, index).values())).sum())

    step()
    with waiting_is_an_error():
        step()


@pytest.mark.parametrize("name", [name for name in features.NAMES if name != "crd"])  # which draws on the device
def test_feature_methods_give_the_same(name: str) -> None:
    found = []
    for device in ("cpu", "cuda"):
        method = features.ready(name).to(device)
        student, teacher = (moved(outputs, device) for outputs in (features.S, features.T))
        inputs = tuple(x.requires_grad_() for x in features.leaves(student))
        labels, index = features.LABELS.to(device), features.INDEX.to(device)
        torch.manual_seed(1)
        loss = torch.stack(list(method(student, teacher, labels, 1.0, index).values())).sum()
        gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
        found.append([x.detach().cpu() for x in (loss, *gradients) if x is not None])
    torch.testing.assert_close(found[1], found[0], rtol=1e-7, atol=1e-8)


def moved(outputs: Outputs, device: str) -> Outputs:
    weight, bias = outputs.classifier or (None, None)
    assert weight is not None
    assert bias is not None
    return features.change(outputs, lambda x: x.clone().to(device))._replace(
        classifier=(weight.to(device), bias.to(device))
    )


@pytest.mark.parametrize("form", FORMS)
def test_kernel(form: str) -> None:
    """Against float64 on the CPU; the sizes make several blocks."""
    g = torch.Generator().manual_seed(0)
    rows = [torch.nn.functional.normalize(torch.randn(k, 50, generator=g, dtype=torch.float64)) for k in (300, 5000)]
    labels = torch.randint(9, (5000,), generator=g)
    terms = [Contrast(0.1, "own", target_mask=True), Contrast(0.2, "labels")]

    def evaluate(device: str, dtype: torch.dtype, form: str) -> list[Tensor]:
        a, z = (x.to(device, dtype).requires_grad_() for x in rows)
        own = labels.to(device)
        with force_form(form):
            losses = contrast(a, [z], Relation((own[:300], own)), terms)
        gradients = torch.autograd.grad(torch.stack(losses).sum(), (a, z))
        return [x.detach().cpu().double() for x in (*losses, *gradients)]

    exact = evaluate("cpu", torch.float64, "plain")
    torch.testing.assert_close(evaluate("cuda", torch.float64, form), exact, rtol=1e-9, atol=1e-10)
    for ours, theirs in zip(evaluate("cuda", torch.float32, form), exact, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


def test_many_classes_in_little_memory() -> None:
    """Category-wise at 1,024 × 21,841 in under 500 MB above the inputs."""
    method = create_method("mcld", instance={"weight": 0}, sample={"weight": 0}).cuda()
    method.check_values = False
    s, t = (torch.randn(1024, 21841, device="cuda", requires_grad=grad) for grad in (True, False))
    labels, index = torch.arange(1024, device="cuda"), torch.arange(1024, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.autograd.backward(sum(method(Outputs(s), Outputs(t), labels, 1.0, index).values()))
    assert torch.cuda.max_memory_allocated() - before < 500e6
    assert s.grad is not None
    assert bool(s.grad.isfinite().all())


@pytest.mark.parametrize("more", ["precision=32", "precision=bf16", "precision=16-mixed", "channels_last=true"])
def test_runs(mcld: Mcld, arrays: list[str], teacher: Path, more: str) -> None:
    words = [*arrays, f"teacher={teacher}", *SMALL, "method=[mcld,kd]", "device=cuda", "run=run"]
    status, out, err = mcld("distill", *words, more)
    assert status == 0, err
    assert "cuda × 1" in out
    assert RunDirectory("run").read_json(Path("run/summary.json"))["last"]["top1"] > 0.6
    there = mcld("evaluate", "run", *arrays[:3], "device=cuda")[1]
    here = mcld("evaluate", "run", *arrays[:3], "device=cpu")[1]
    tops = [float(re.findall(r"top-1\D+([\d.]+)%", text)[0]) for text in (there, here)]
    assert abs(tops[0] - tops[1]) <= (0 if more == "precision=32" else 4)


@pytest.mark.parametrize("method", ["crd", "reviewkd", "at", "srd", "ofd", "mlkd data.second_policy=none"])
def test_feature_runs(mcld: Mcld, arrays: list[str], teacher: Path, method: str) -> None:
    words = [*arrays, f"teacher={teacher}", *SMALL, *f"method={method}".split(), "device=cuda", "run=run"]
    status, _, err = mcld("distill", *words)
    assert status == 0, err


def test_compiled(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    words = [*arrays, f"teacher={teacher}", *SMALL, "method=mcld", "device=cuda", "compile=true", "run=run"]
    status, out, err = mcld("distill", *words)
    assert status == 0, err
    assert "sgd, compiled" in out


def test_store(mcld: Mcld, arrays: list[str], teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Live, with an empty store and with a full one: the same student as far as the device itself repeats itself.

    In full float32: a batch of which some is stored asks the teacher for fewer images, which TF32 (about 1e-3)
    can round otherwise.
    """
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    words = [*arrays, f"teacher={teacher}", *SMALL, "method=mcld", "device=cuda"]
    stored = ["teacher.store=store", "teacher.store_precision=32"]
    for name, more in (
        ("off", ["teacher.store=off"]),
        ("again", ["teacher.store=off"]),
        ("cold", stored),
        ("warm", stored),
    ):
        status, out, err = mcld("distill", *words, *more, f"run={name}")
        assert status == 0, err
    assert "100.0% read from the store" in out
    noise = distance("off", "again")
    print(f"two runs with the same settings differ by {noise:.1e} of their weights")
    assert distance("off", "cold") <= max(10 * noise, 1e-3)
    assert distance("cold", "warm") <= max(10 * noise, 1e-3)


def distance(one: str | Path, other: str | Path) -> float:
    """‖difference‖ / ‖weights‖ of two runs."""
    pairs = [load_file(Path(run) / "last.safetensors") for run in (one, other)]
    ours, theirs = (torch.cat([w.flatten().double() for w in weights.values()]) for weights in pairs)
    return float((ours - theirs).norm() / theirs.norm())


def test_resume(mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path) -> None:
    words = ["distill", *arrays, f"teacher={teacher}", *SMALL, "method=[mcld,kd]", "device=cuda", "schedule.epochs=30"]
    for name in ("whole", "again"):
        assert mcld(*words, f"run={name}")[0] == 0
    process = subprocess.Popen([sys.executable, "-m", "mcld", *words, "run=cut"], cwd=tmp_path)
    run = RunDirectory(tmp_path / "cut")
    deadline = time.monotonic() + 120
    while not list_checkpoints(run.checkpoints) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 128 + signal.SIGTERM
    status, out, err = mcld("resume", "cut")
    assert status == 0, err
    assert "going on with epoch" in out
    noise = distance("whole", "again")
    print(f"two whole runs differ by {noise:.1e} of their weights, a resumed one by {distance('whole', 'cut'):.1e}")
    assert distance("whole", "cut") <= max(10 * noise, 1e-3)


@pytest.mark.parametrize(
    "method", ["[mcld,kd]", "dist", "mcld method.softmax=4", "mcld method.bank=64", "fitnet", "crd"]
)
def test_steps_do_not_wait(arrays: list[str], teacher: Path, tmp_path: Path, method: str) -> None:
    words = [
        *arrays,
        f"teacher={teacher}",
        *SMALL,
        *f"method={method}".split(),
        "device=cuda",
        f"run={tmp_path / 'run'}",
    ]
    settings = compose("distill", words)
    parts = build_parts(settings)
    fabric = launch(parts.settings)
    parts = parts.on(fabric.device)
    stop, run, silent = StopRequest(), RunDirectory(tmp_path), Display(silent=True)
    loop = Loop(fabric, parts, live_teacher(fabric, parts), None, run, silent, stop)
    bar = silent.bar(loop.total, 0, "")
    loop._train_epoch(bar)
    loop.position.step = 0
    loop._watch = lambda: None  # type: ignore[method-assign]  # at the end of an epoch it does ask
    loop.loader.plan(0)
    batches = list(loop.loader.epoch(0))  # the plan of an epoch goes to the device once
    loop.loader.epoch = lambda *_, **__: iter(batches)  # type: ignore[method-assign]
    with waiting_is_an_error():
        loop._train_epoch(bar)
    assert loop.position.step == loop.steps > 3


@pytest.mark.parametrize("method", ["mcld", "[dkd,kd]", "dist", "mcld method.bank=64", "mlkd"])
def test_replayed_steps(mcld: Mcld, arrays: list[str], teacher: Path, method: str) -> None:
    """The weights of eager steps up to rounding, and the captured step was really replayed."""
    words = [*arrays, f"teacher={teacher}", *SMALL, *f"method={method}".split(), "device=cuda"]
    for name, step in (("eager", "eager"), ("again", "eager"), ("graph", "graph")):
        status, out, err = mcld("distill", *words, f"step={step}", f"run={name}")
        assert status == 0, err
    assert "replayed steps" in out
    assert distance("eager", "graph") <= max(10 * distance("eager", "again"), 1e-3)


def test_a_resumed_run_of_replayed_steps(
    mcld: Mcld, arrays: list[str], teacher: Path, both_checkpoints: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, where the device computes the same twice."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    words = [*arrays, f"teacher={teacher}", *SMALL, "method=mcld", "device=cuda", "step=graph"]
    for name in ("whole", "again"):
        assert mcld("distill", *words, f"run={name}")[0] == 0
    list_checkpoints(RunDirectory("again").checkpoints)[0].unlink()
    assert mcld("resume", "again")[0] == 0
    assert distance("whole", "again") == 0
