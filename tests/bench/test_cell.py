import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mcld.assembly.networks import load_run
from mcld.bench.cell import run_cell
from mcld.bench.report import write_report
from mcld.bench.suite import Cell
from mcld.bench.suite_file import read_suite
from mcld.data import load_data
from mcld.display import Display
from mcld.engine.checkpoint import list_checkpoints
from mcld.engine.stop import Interrupted
from mcld.errors import InputError
from mcld.evaluation.logits import network_logits
from mcld.runs.results import RESULTS

Suite = Callable[..., Path]
Mcld = Callable[..., tuple[int, str, str]]
QUICK = ["schedule.epochs=1", "threads=1"]
KEEP = ("baseline: KD", "baseline: KD\nkeep: kept")


def cells(file: Path) -> dict[str, Cell]:
    return {cell.id: cell for cell in read_suite(str(file)).cells()}


def run(cell: Cell) -> None:
    run_cell(cell, threads=1, display=Display(brief=True))


def test_a_cell_ends_with_results_that_its_weights_give(suite: Suite, arrays: list[str], test_file: Path) -> None:
    cell = cells(suite(KEEP))["small/kd/seed1"]
    run(cell)
    results = cell.results()
    assert results is not None
    assert results.cell == {"id": "small/kd/seed1", "pair": "small", "method": "KD", "seed": 1}
    options = dict(word.removeprefix("data.").split("=") for word in arrays if word.startswith("data."))
    data = load_data("arrays", train=options["train"], val=str(test_file))
    logits = network_logits(load_run(str(cell.run), "best"), data.val)
    correct = logits.argmax(dim=1) == data.val.labels
    assert results.test["images"] == len(data.val) == 80
    assert results.correct("best").tolist() == correct.tolist()
    assert results.test["best"]["top1"] == pytest.approx(correct.double().mean().item())
    assert results.test["best"]["nll"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, data.val.labels).item(), rel=1e-5
    )
    assert results.terms == ["ce", "kl"]
    assert len(results.curve("val_top1")) == 2
    assert results.test["features"]["points"]["shape"] == [80, 2]
    assert results.test["correlation_difference"]["shape"] == [4, 4]
    assert Path("kept/small/kd/seed1.json").read_text() == (cell.run / RESULTS).read_text()
    assert (cell.run / RESULTS).stat().st_size < 20_000

    write_report(read_suite("tiny.yaml"), Path("report"))
    table = Path("report/table.md").read_text()
    assert f"| KD | 1 of 2 | {100 * results.test['last']['top1']:.2f} |" in table

    stamp = (cell.run / RESULTS).stat().st_mtime_ns
    run(cell)  # nothing is done twice
    assert (cell.run / RESULTS).stat().st_mtime_ns == stamp


def test_a_cell_that_was_stopped_goes_on_and_ends_the_same(suite: Suite) -> None:
    long = ("schedule.epochs=2", "schedule.epochs=6")
    whole = cells(suite(long, ("baseline: KD", "baseline: KD\nout: whole")))["small/mcld/seed0"]
    run(whole)
    cell = cells(suite(long))["small/mcld/seed0"]

    def stop() -> None:
        while not list_checkpoints(cell.run / "checkpoints"):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Interrupted):
        run(cell)
    assert not cell.finished()
    run(cell)
    ours, theirs = (load_file(c.run / "last.safetensors") for c in (cell, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    mine, other = (json.loads((c.run / RESULTS).read_text())["test"] for c in (cell, whole))
    assert mine == other


def test_seed_k_starts_every_method_alike(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcld.engine import loop

    seen: dict[str, list[torch.Tensor]] = {}
    original = loop.Loop.train

    def watch(self: loop.Loop) -> loop.Position:
        first = next(iter(self.parts.student.parameters())).detach().clone()
        batch = next(iter(self.loader.epoch(0)))
        seen[str(self.run.path)] = [first, batch.index, batch.view]
        return original(self)

    monkeypatch.setattr(loop.Loop, "train", watch)
    found = cells(suite(("schedule.epochs=2", "schedule.epochs=1")))
    for method in ("kd", "mcld"):
        run(found[f"small/{method}/seed0"])
    kd, mcld = seen.values()
    assert all(torch.equal(one, other) for one, other in zip(kd, mcld, strict=True))


def test_what_is_in_the_way_is_said(suite: Suite, arrays: list[str]) -> None:
    cell = cells(suite(("schedule.epochs=2", "schedule.epochs=1")))["small/plain/seed0"]
    (cell.run / "checkpoints").mkdir(parents=True)  # killed before it became a run
    run(cell)
    other = cells(suite(("schedule.epochs=2", "schedule.epochs=3")))["small/plain/seed0"]
    with pytest.raises(InputError, match=r"was measured with other settings .*schedule.epochs is 1 there, 3 in the"):
        run(other)
    (cell.run / RESULTS).unlink()
    with pytest.raises(InputError, match=r"is a run of other settings: schedule.epochs is 1 there, 3 in the suite"):
        run(other)
    train = next(word for word in arrays if word.startswith("data.train=")).removeprefix("data.train=")
    seen = cells(suite(("schedule.epochs=2", "schedule.epochs=1"), ("test: data.val=", f"test: data.val={train} #")))
    with pytest.raises(InputError, match="the test images are those that it was trained or chosen on"):
        run(seen["small/plain/seed0"])
    (cell.run / RESULTS).write_text('{"format": 1}')
    with pytest.raises(InputError, match=r"results.json cannot be read \(KeyError"):
        cell.finished()


def test_images_have_the_size_that_the_teacher_was_trained_at(suite: Suite, mcld: Mcld, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label, name in enumerate(("dark", "light")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(12):
                image = rng.integers(0, 100, (64, 64, 3)) + 120 * label
                Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
    data = "data=folder data.path=photos data.workers=0 data.cache=off data.batch_size=12"
    assert mcld("train", *data.split(), "data.image_size=16", *QUICK, "model=resnet8", "run=T")[0] == 0
    text = suite().read_text()
    common, teacher, test = (
        next(line for line in text.splitlines() if line.startswith(key)) for key in ("common", "teacher", "test")
    )
    more = "teacher.allow_near_chance=true schedule.epochs=1"
    words = ((common, f"common: {data} {more}"), (teacher, "teacher: T"), (test, "test: data.val=test"))
    cell = cells(suite(*words))["small/kd/seed0"]
    run(cell)
    assert "images of 16 px, as teacher T was trained on" in (cell.run / "log.txt").read_text()
    results = cell.results()
    assert results is not None
    held = load_data("folder", path="photos", val="test", image_size=16, workers=0, cache="off")
    for weights in ("last", "best"):
        network = load_run(str(cell.run), weights)
        assert network.spec.image_size == [16, 16]
        loss = torch.nn.functional.cross_entropy(network_logits(network, held.val), held.val.labels)
        assert results.test[weights]["nll"] == pytest.approx(loss.item(), rel=1e-5)
    other = cells(suite(*words[1:], (common, f"{words[0][1]} data.image_size=32"), ("baseline: KD", "out: at32")))
    run(other["small/kd/seed0"])
    said = "warning: teacher T was trained on images of 16×16 px and gets 32×32 px: expect worse answers"
    assert said in (other["small/kd/seed0"].run / "log.txt").read_text()
