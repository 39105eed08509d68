"""Published rows as runs: each takes a step, and the end of a run sets it beside its row."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcld.assembly.published import published_block, published_lines
from mcld.commands.dry_run import dry_run
from mcld.configs.compose import compose
from mcld.configs.published import Row, absent, find_row, published_rows

Mcld = Callable[..., tuple[int, str, str]]
SMALL = "cifar100/resnet56-resnet20"


@pytest.fixture(scope="session")
def cifar100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-100 in its own format, with 16 + 8 images of noise."""
    folder = tmp_path_factory.mktemp("data") / "cifar-100-python"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train", 16), ("test", 8)):
        content = {
            "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
            "fine_labels": list(range(count)),
            "filenames": ["x.png"] * count,
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    names = {"fine_label_names": [f"class{i}" for i in range(100)]}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=2))
    return folder.parent


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's folders, with three classes of noise."""
    folder = tmp_path_factory.mktemp("imagenet")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        for synset in ("n01440764", "n01443537", "n01484850"):
            place = folder / split / synset
            place.mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(rng.integers(0, 256, (72, 80, 3), dtype=np.uint8))
                image.save(place / f"{synset}_{i}.JPEG")
    return folder


def step(row: Row, folder: Path) -> None:
    words = [f"published={row.id}", f"data.path={folder}", "data.batch_size=4", "device=cpu", "threads=1"]
    if row.teacher:
        words += [f"teacher={row.teacher}", "teacher.allow_near_chance=true"]  # it is untrained
    if row.data == "imagenet":
        side = 128 if row.options.get("side") == 4 else 64  # whose last maps are 4×4, as CAT-KD needs there
        words += [f"data.image_size={side}", "data.workers=0"]
    dry_run(compose(row.command, words))


def of_each_method() -> list[str]:
    rows = {row.id.split("/")[-1] for row in published_rows() if row.id.startswith(f"{SMALL}/") and not absent(row)}
    return [f"{SMALL}/{name}" for name in sorted(rows)]


@pytest.mark.parametrize("name", ["cifar100/resnet20", *of_each_method()])
def test_a_row_of_each_method_takes_steps(
    name: str, cifar100: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    step(find_row(name), cifar100)
    out = capsys.readouterr().out
    assert "loss terms" in out
    assert "nan" not in out.partition("loss terms")[2]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", [row.id for row in published_rows() if not absent(row)])
def test_every_row_takes_steps(
    name: str,
    cifar100: Path,
    imagenet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    row = find_row(name)
    step(row, cifar100 if row.data == "cifar100" else imagenet)
    assert "loss terms" in capsys.readouterr().out


def test_the_summary_sets_both_numbers_beside_the_published_one(mcld: Mcld, cifar100: Path, tmp_path: Path) -> None:
    common = [f"data.path={cifar100}", "data.batch_size=4", "schedule.epochs=2", "threads=1", "device=cpu"]
    assert mcld("train", "published=cifar100/resnet56", *common, "run=t")[0] == 0
    words = ["teacher=t", "teacher.allow_near_chance=true", "method.beta=1", "seed=3", "run=s"]
    status, out, _ = mcld("distill", f"published={SMALL}/dkd", *common, *words)
    assert status == 0
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    block = summary["published"]
    assert (block["id"], block["top1"], block["comparable"]) == (f"{SMALL}/dkd", 0.7197, "best")
    assert block["source"] == "mdistiller README"
    assert (block["protocol"], block["views"]) == ("best epoch, mean of 5 runs", 1)
    assert block["teacher_top1"] == 0.7234
    changed = {d["setting"]: (d["published"], d["here"]) for d in block["differences"]}
    assert changed == {"data.batch_size": (64, 4), "schedule.epochs": (240, 2), "method.beta": (2.0, 1.0)}
    line = next(line for line in out.splitlines() if line.startswith(f"published {SMALL}/dkd"))
    assert "71.97% (mdistiller README: best epoch, mean of 5 runs, 1 view), to be set beside our best" in line
    assert f"last {summary['last']['top1']:.2%}, best {summary['best']['top1']:.2%}" in line
    assert "the settings are not the published ones, so the numbers do not compare" in out
    assert "schedule.epochs 2 instead of 240" in out
    alone = json.loads((tmp_path / "t" / "summary.json").read_text())["published"]
    assert (alone["top1"], alone["comparable"], alone["teacher_top1"]) == (0.7234, "last", None)


def test_places_seed_and_machine_are_no_differences() -> None:
    words = ["data.path=DIR", "run=r", "seed=4", "device=cpu", "threads=2", "teacher=runs/t"]
    settings = compose("distill", [f"published={SMALL}/kd", *words])
    block = published_block(settings, "resnet56")
    assert block is not None
    assert block["differences"] == []


def test_another_teacher_is_a_difference_and_an_alias_is_none() -> None:
    words = ["teacher=runs/t", "student=WRN-16-2"]
    settings = compose("distill", ["published=cifar100/wrn_40_2-wrn_16_2/kd", *words])
    block = published_block(settings, "wrn_40_1")
    assert block is not None
    assert block["differences"] == [{"setting": "teacher", "published": "wrn_40_2", "here": "wrn_40_1"}]
    assert published_block(settings, "WRN-40-2") == {**block, "differences": []}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"{SMALL}/kd", "to be set beside our last; ours, one run: last 10.00%, best 20.00%"),
        (f"{SMALL}/ctkd", "which epoch is not stated; ours, one run: last 10.00%, best 20.00%"),
        (f"{SMALL}/mcld", "no number is known; ours: the paper's hyper-parameters were not available"),
        (f"{SMALL}/mlkd", "(MLKD's own, quoted in LSKD README: best epoch, runs unknown, 2 views)"),
        (f"{SMALL}/mlkd-ls", "of that row: no log was published; temperature and weight are those of most pairs"),
        (f"{SMALL}/kd-ls", "also reported: top-1 71.37% (the one published log of LSKD: last epoch, 1 run)"),
    ],
)
def test_the_lines_never_hide_which_number_is_which(name: str, said: str) -> None:
    settings = compose("distill", [f"published={name}", "teacher=t"])
    summary = {
        "last": {"top1": 0.1},
        "best": {"top1": 0.2},
        "teacher": {"top1": 0.7},
        "published": published_block(settings, "resnet56"),
    }
    text = "\n".join(published_lines(summary))
    assert said in text
    assert "the published teacher has top-1 72.34%, this one 70.00%" in text
    assert "do not compare" not in text


def test_a_run_without_a_row_says_nothing_of_it() -> None:
    assert published_block(compose("train", ["data=digits", "model=resnet8"]), None) is None
    assert published_lines({"published": None}) == []
