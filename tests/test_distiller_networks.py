"""The Distiller on networks of timm, torchvision and Hugging Face, under autocast, compiled, and on two processes."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
import torchvision
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mcld import Distiller, InputError
from mcld.methods import list_methods, method_class
from mcld.outputs import split_output

C, RANKS, ROWS = 5, 2, 6


class Small(nn.Module):
    """Without batch normalisation, which would normalise each process's share by itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(2 * width, C)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.relu(self.down(self.conv(x).relu())).mean(dim=(2, 3)))
        return logits


def pair() -> tuple[Small, Small]:
    torch.manual_seed(0)
    return Small(4), Small(8)


def batch(B: int, side: int = 8, step: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(step)
    return torch.rand(B, 3, side, side, generator=g), torch.arange(B) % C, torch.randperm(40, generator=g)[:B]


def learns(student: nn.Module, method: str, side: int, **options: Any) -> Distiller:
    distiller = Distiller(student, Small(8), method, image_size=side, **options)
    images, labels, _ = batch(4, side)
    out = distiller.train()(images, labels, progress=0.5)
    out.loss.backward()
    assert out.logits.shape == (4, C)
    assert out.loss.isfinite()
    assert sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in student.parameters()) > 2
    return distiller


@pytest.mark.parametrize("method", ["mcld", "pkt", "at"])
@pytest.mark.parametrize(
    ("name", "options", "stages"),
    [("resnet10t", {}, 5), ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2}, 2)],
)
def test_timm(name: str, options: dict[str, Any], stages: int, method: str) -> None:
    distiller = learns(timm.create_model(name, num_classes=C, **options), method, 32)
    assert len(distiller.student_features._maps) == (stages if method == "at" else 0)


@pytest.mark.parametrize("method", ["mcld", "pkt", "at"])
def test_torchvision(method: str) -> None:
    learns(torchvision.models.shufflenet_v2_x0_5(num_classes=C), method, 32)


def test_auxiliary_classifiers_of_torchvision_learn_too() -> None:
    student = torchvision.models.googlenet(num_classes=C, aux_logits=True, init_weights=False)
    distiller = learns(student, "kd", 64)
    images, labels, _ = batch(4, 64)
    terms = distiller(images, labels).terms
    assert list(terms) == ["ce", "ce_aux", "kl"]
    assert student.aux1.fc2.weight.grad is not None  # else data parallelism would wait for it
    assert list(distiller.eval()(images, labels).terms) == ["ce", "kl"]
    assert "ce_aux" not in Distiller(student, Small(8), "kd", aux_weight=0)(images, labels).terms


def test_hugging_face() -> None:
    transformers = pytest.importorskip("transformers", reason="the test extra has it")
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    config = transformers.ResNetConfig(num_channels=3, num_labels=C, **sizes)
    for method in ("mcld", "pkt", "at"):
        distiller = learns(transformers.ResNetForImageClassification(config), method, 32)
    grids = [shape[1:] for shape in distiller.student_features.shapes().maps]
    assert grids[-2:] == [(8, 8), (4, 4)]
    teacher = transformers.ResNetForImageClassification(config)
    images, labels, _ = batch(4, 32)
    out = Distiller(Small(4), teacher, "kd")(images, labels)
    given = Distiller(Small(4), method="kd")(images, labels, teacher_logits=teacher.eval()(images))
    assert out.loss.isfinite()
    assert given.loss.isfinite()


def test_what_holds_no_logits_is_refused_by_name() -> None:
    x = torch.zeros(2, 3)
    assert split_output((x, "more"), "student")[0] is x
    assert split_output({"scores": x}, "student")[0] is x
    for output, message in (
        ({"a": x, "b": x}, "the student gives dict with a, b; expected the logits as 'logits'"),
        ((1, 2), r"the student gives a tuple of \(int, int\); expected logits"),
        (None, "the student gives nothing; expected logits"),
        (torch.zeros(2, 3, 4), r"the student gives logits of shape \(2, 3, 4\); expected \(B, C\)"),
    ):
        with pytest.raises(InputError, match=message):
            split_output(output, "student")


@pytest.mark.parametrize("method", ["mcld", "dkd", "pkt", "at"])
def test_autocast(method: str) -> None:
    student, teacher = pair()
    images, labels, _ = batch(8)
    distiller = Distiller(student, teacher, method, epochs=10, image_size=8)
    exact = distiller(images, labels, progress=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        out = distiller(images, labels, progress=0.5)
    assert out.loss.dtype is torch.float32
    torch.testing.assert_close(out.loss, exact.loss, rtol=0.05, atol=0.05)
    out.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())


COMPILED = [name for name in list_methods() if method_class(name).needs <= {"logits"}]


@pytest.mark.parametrize(
    "name", [name if name in ("kd", "mcld") else pytest.param(name, marks=pytest.mark.slow) for name in COMPILED]
)
def test_compiles_into_one_graph_whatever_the_progress(name: str) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    student, teacher = pair()
    images, labels, index = batch(6)
    if method_class(name).views == 2:
        images = torch.stack([images, images.flip(3)], dim=1)
    distiller = Distiller(student, teacher, name, epochs=10)
    expected = [distiller(images, labels, progress=p, index=index).loss for p in (0.1, 0.2, 0.35, 0.9)]
    compiled = torch.compile(distiller, backend="aot_eager", fullgraph=True)
    for p, loss in zip((0.1, 0.2, 0.35, 0.9), expected, strict=True):
        out = compiled(images, labels, progress=p, index=index)
        torch.testing.assert_close(out.loss, loss, rtol=1e-4, atol=1e-5)
        out.loss.backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3  # one for each step would be four


METHODS = ("kd", "mcld", "dist", "pkt", "srd")


def steps(distiller: nn.Module, share: slice) -> dict[str, Any]:
    """Losses of three steps of SGD on a share of joined batches, and the parameters after them."""
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.05)
    losses = []
    for step in range(3):
        images, labels, index = (part[share] for part in batch(RANKS * ROWS, step=step))
        images = images.double()
        out = distiller(images, labels, progress=0.4, index=index)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in distiller.parameters()]
    return {"losses": losses, "parameters": [p.detach().clone() for p in whole]}


def made(method: str) -> Distiller:
    student, teacher = pair()
    return Distiller(student.double(), teacher.double(), method, image_size=8).double()


def run_rank(rank: int, folder: str) -> None:
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    share = slice(rank * ROWS, (rank + 1) * ROWS)
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (RANKS,))
    results = {}
    for method in METHODS:
        results[f"ddp {method}"] = steps(DistributedDataParallel(made(method)), share)
        sharded = made(method)
        fully_shard(sharded.student.get_submodule("conv"), mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        results[f"fsdp {method}"] = steps(sharded, share)
    torch.save(results, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1]))  # the processes import this file by its name
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=run_rank, args=(rank, str(folder))) for rank in range(RANKS)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * RANKS
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_processes_learn_as_one_on_the_joined_batch(how: str, method: str, ranks: list[dict[str, Any]]) -> None:
    one, found = steps(made(method), slice(None)), [rank[f"{how} {method}"] for rank in ranks]
    # cross-entropy is each rank's own, averaged over the ranks
    means = [sum(losses) / RANKS for losses in zip(*(rank["losses"] for rank in found), strict=True)]
    assert means == pytest.approx(one["losses"], rel=1e-9)
    for rank in found:
        torch.testing.assert_close(rank["parameters"], one["parameters"], rtol=1e-9, atol=1e-9)
    first = list(made(method).parameters())
    assert max((a - b).abs().max().item() for a, b in zip(first, one["parameters"], strict=True)) > 1e-3
