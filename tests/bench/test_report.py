import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mcld.bench.suite import Cell
from mcld.bench.suite_file import read_suite
from mcld.configs.decisive import flatten
from mcld.runs.results import RESULTS, pack_bits, pack_numbers, results_text
from mcld.runs.statistics import paired_difference

Suite = Callable[..., Path]
Mcld = Callable[..., tuple[int, str, str]]
IMAGES = 200


CROP = "crop 8, padding 0, horizontal flip"
POOL = f"{CROP}, 2 views per image (approximation)"


def made_up(
    cell: Cell,
    correct: np.ndarray[tuple[int], np.dtype[np.bool_]],
    validation: float,
    test: str = "t",
    views: str = CROP,
) -> None:
    """Leave what a finished cell leaves for the report."""
    curve = [0.3, validation]
    terms = {"ce": [2.0, 1.0], **({} if cell.method == "plain" else {"term": [1.0, 3.0]})}
    names = ("train_top1", "val_loss", "val_top1", "agreement")
    curves = {"epoch": [1, 2], "loss": [3.0, 4.0], **terms, **dict.fromkeys(names, curve), "seconds": [5.0, 11.0]}
    numbers = {"top1": float(correct.mean()), "nll": 1.25, "ece": 0.07}
    student = {**numbers, "agreement": 0.8, "correct": pack_bits(correct)}
    summary = {
        "last": {"top1": validation},
        "best": {"top1": validation, "epoch": 2},
        "images": {"train": 160, "validation": 60},
        "views": views,
        "teacher": {"name": "resnet8"},
        "curves": curves,
    }
    environment = {
        "date": "2026-01-02T03:04:05+00:00",
        "packages": {"torch": "2.9"},
        "python": "3.12",
        "processor": "abacus <9>",
        "cores": 2,
        "threads": 1,
        "gpus": [],
        "git": {"commit": "0123456789abcdef", "changed": True},
        "inputs": {"training data": "a", "validation data": "b", "teacher's weights": "c"},
    }
    measured = {
        "images": IMAGES,
        "fingerprint": test,
        "classes": ["a", "b", "c", "d"],
        "teacher": {**numbers, "top1": 0.9},
        "last": student,
        "best": student,
        "correlation_difference": pack_numbers(np.eye(4)[::-1] / 2),
        "features": {"points": pack_numbers(np.random.default_rng(0).random((8, 2))), "labels": [0, 1] * 4},
    }
    names_of = {"id": cell.id, "pair": cell.pair, "method": cell.method, "seed": cell.seed}
    cell.run.mkdir(parents=True)
    (cell.run / RESULTS).write_text(results_text(names_of, flatten(cell.settings()), environment, summary, measured))


def test_the_numbers_are_those_of_the_runs(mcld: Mcld, suite: Suite, tmp_path: Path) -> None:
    file = suite()
    cells = read_suite(str(file)).cells()
    rng = np.random.default_rng(0)
    right = {cell.id: rng.random(IMAGES) < {"plain": 0.5, "KD": 0.6, "MCLD": 0.7}[cell.method] for cell in cells}
    validation = {"plain": 0.5, "KD": 0.6, "MCLD": 0.7}
    for cell in cells:
        if cell.id != "small/plain/seed1":
            made_up(cell, right[cell.id], validation[cell.method])
    status, out, err = mcld("bench", str(file), "--report", "page")
    assert status == 0, err
    assert "5 of 6 cells are finished; the rest is missing from every number here." in out
    assert "Seeds that are missing: plain: seed 1." in out
    assert "plain: one seed only" in out
    rows = {row["method"]: row for row in csv.DictReader((tmp_path / "page/table.csv").open())}
    of_mcld = [right[f"small/mcld/seed{seed}"] for seed in (0, 1)]
    of_kd = [right[f"small/kd/seed{seed}"] for seed in (0, 1)]
    tops = [row.mean() for row in of_mcld]
    assert float(rows["MCLD"]["last"]) == pytest.approx(np.mean(tops))
    assert float(rows["MCLD"]["last_sd"]) == pytest.approx(np.std(tops, ddof=1))
    assert rows["plain"]["last_sd"] == ""
    found = paired_difference(of_mcld, of_kd)
    assert float(rows["MCLD"]["to_baseline_mean"]) == pytest.approx(found.mean)
    assert float(rows["MCLD"]["to_baseline_low"]) == pytest.approx(found.low)
    assert (rows["MCLD"]["to_baseline_seeds"], rows["plain"]["to_baseline_seeds"]) == ("2", "1")
    assert (rows["KD"]["to_baseline_mean"], rows["KD"]["to_rival_of"]) == ("", "KD")
    assert float(rows["KD"]["seconds"]) == 5.5  # the median of 5 and 6
    table = (tmp_path / "page/table.md").read_text()
    assert f"| MCLD | 2 | {100 * np.mean(tops):.2f} ± {100 * np.std(tops, ddof=1):.2f} |" in table
    assert f"{100 * found.mean:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]".replace("-", "−") in table
    assert "| plain | 1 of 2 |" in table
    runs = list(csv.DictReader((tmp_path / "page/runs.csv").open()))
    assert {run["id"]: float(run["last_top1"]) for run in runs} == {
        cell.id: pytest.approx(right[cell.id].mean()) for cell in cells if cell.id != "small/plain/seed1"
    }

    page = (tmp_path / "page/index.html").read_text()
    assert not re.search(r"<script|<link|<img|src=\"|url\((?!#bench-)", page)
    drawn = ["bench-correlations", "bench-cost", "bench-curves", "bench-differences", "bench-features", "bench-terms"]
    assert sorted(file.stem for file in (tmp_path / "page/figures").iterdir()) == drawn
    assert page.count('role="img" aria-label="') == len(drawn)
    titles = re.findall(r'<th scope="col">([^<]*)', page)
    assert titles[:4] == ["method", "seeds", "top-1 last", "− KD (95% interval)"]  # what a phone shows
    assert "Grey: the other methods" not in page  # there are none
    assert "abacus &lt;9&gt;" in page
    for said in (
        "0123456789ab with changes",
        "2026-01-02",
        "torch 2.9",
        f"mcld bench {file} --workers 2",
        "of 6 cells",
    ):
        assert said in page
    assert "Best on the validation images: MCLD" in page


def test_a_pool_of_views_is_called_an_approximation(mcld: Mcld, suite: Suite, tmp_path: Path) -> None:
    file = suite()
    for views in ({"plain": CROP, "KD": CROP, "MCLD": POOL}, dict.fromkeys(("plain", "KD", "MCLD"), POOL)):
        for cell in read_suite(str(file)).cells():
            shutil.rmtree(cell.run, ignore_errors=True)
            made_up(cell, np.arange(IMAGES) % 2 == 0, 0.5, views=views[cell.method])
        status, _, err = mcld("bench", str(file), "--report", "page")
        assert status == 0, err
        said = f"plain, KD: {CROP}. MCLD: {POOL}." if views["KD"] == CROP else POOL
        assert f"- Views of an image to train on: {said}\n" in (tmp_path / "page/table.md").read_text()
        assert POOL in (tmp_path / "page/index.html").read_text()


def test_from_the_copies_alone_and_from_nothing(mcld: Mcld, suite: Suite, tmp_path: Path) -> None:
    file = str(suite(("baseline: KD", "keep: kept")))
    status, _, err = mcld("bench", file, "--report")
    assert status == 2
    assert f"{file}: none of 6 cells is finished, in runs/tiny; run it first" in err
    cells = read_suite(file).cells()
    for cell in cells[:2]:
        made_up(cell, np.ones(IMAGES, bool), 0.5)
        assert cell.kept is not None
        cell.kept.parent.mkdir(parents=True, exist_ok=True)
        (cell.run / RESULTS).rename(cell.kept)
    status, out, err = mcld("bench", file, "--report")
    assert status == 0, err
    assert "2 of 6 cells are finished" in out
    assert "Methods without a finished run: MCLD." in out
    assert (tmp_path / "runs/tiny/reports/tiny/index.html").exists()
    changed = str(suite(("baseline: KD", "keep: kept"), ("method=kd", "method=kd method.temperature=2")))
    status, out, err = mcld("bench", changed, "--report")
    assert (
        "method.temperature is 4.0 there, 2.0 in the suite"
        in (tmp_path / "runs/tiny/reports/tiny/table.md").read_text()
    )
    made_up(cells[2], np.ones(IMAGES, bool), 0.5, test="other images")
    status, _, err = mcld("bench", file, "--report")
    assert status == 2
    assert "small: its cells were tested on different images" in err
