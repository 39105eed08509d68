"""The page about runs, from facts made by hand."""

import dataclasses
import html.parser
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcld.data import load_data
from mcld.errors import InputError
from mcld.evaluation.calibration import most_likely
from mcld.report.answers import SHOWN, Answers, answers_of, read_answers, worth_a_look, write_answers
from mcld.report.run_facts import (
    RunFacts,
    class_rows,
    confusion_counts,
    differing_settings,
    reliability_bins,
    verdict,
    worst_pairs,
)
from mcld.report.run_page import run_page
from mcld.report.svg import as_file

NASTY = "<script>alert(1)</script> & $x$"
CLASSES = ["cat", "dog", NASTY]


def answers(labels: list[int], predicted: list[int], teacher: list[int] | None) -> Answers:
    count = len(labels)
    confidence = np.linspace(0.4, 0.95, count, dtype=np.float32)
    return Answers(
        weights="w",
        labels=np.array(labels),
        predicted=np.array(predicted),
        confidence=confidence,
        calibrated=confidence - 0.1,
        temperature=1.5,
        error=(0.2, 0.05),
        teacher=None if teacher is None else np.array(teacher),
        teacher_confidence=None if teacher is None else confidence[::-1].copy(),
        pictures={},
    )


def facts(name: str = "small", method: str | None = "mcld", top1: float = 0.75, **changes: Any) -> RunFacts:
    row = {"lr": 0.1, "loss": 2.0, "ce": 1.5, "instance": 0.5, "train_top1": 0.5, "val_loss": 1.0}
    history = [
        {"epoch": epoch, **row, "val_top1": value, "val_top5": 1.0, "images_per_second": 10.0, "seconds": 2.0 * epoch}
        for epoch, value in ((1.0, 0.3), (2.0, top1))
    ]
    summary = {
        "data": "folder",
        "images": {"train": 100, "validation": 12},
        "views": "crop",
        "method": method,
        "seed": 0,
        "epochs": 2,
        "protocol": "last",
        "last": {"top1": top1, "top5": 1.0, "loss": 1.0, "agreement": 0.8},
        "best": {"epoch": 2, "top1": top1, "top5": 1.0},
        "network": {"name": "resnet8", "parameters": 1000, "macs": 5_000_000},
        "teacher": {"name": "resnet56", "parameters": 10_000, "macs": 9, "top1": 0.8, "top5": 1.0},
        "seconds": 4.0,
    }
    given = answers([0] * 6 + [1] * 6, [0] * 6 + [0, 0, 0, 0, 2, 1], [0] * 5 + [1] + [1] * 6)
    made = RunFacts(
        name=name,
        path=f"runs/{name}",
        settings={"method.name": method, "seed": 0, "schedule.lr": 0.05},
        classes=CLASSES,
        history=history,
        summary=summary,
        environment={"command": ["/somewhere/bin/mcld", "distill", "run=a b"], "packages": {"torch": "2"}},
        answers=given,
    )
    return dataclasses.replace(made, **changes)


def test_classes_and_mistakes_are_counted() -> None:
    rows = class_rows(facts())
    assert [(row.name, row.right, row.images, row.teacher_right) for row in rows] == [
        ("cat", 6, 6, 5),
        ("dog", 1, 6, 6),  # a class without images has no row
    ]
    assert confusion_counts(facts()).tolist() == [[6, 0, 0], [4, 1, 1], [0, 0, 0]]
    assert worst_pairs(facts()) == [("dog", "cat", 4, 6), ("dog", NASTY, 1, 6)]
    assert class_rows(facts(answers=None)) == []
    assert worst_pairs(facts(answers=None)) == []


def test_the_verdict_says_the_main_thing_in_words() -> None:
    assert verdict([facts()]) == (
        "75.0% top-1, 5.0 points below its teacher (80.0%), with 10.0% of its parameters; dog: 1 of 6 right."
    )
    alone = facts("alone", method="plain", top1=0.72)
    assert verdict([facts(), alone]).startswith("3.0 points above the same student alone (72.0%); 75.0% top-1, 5.0 ")
    better = facts("other", top1=0.79)
    assert verdict([facts(), better]).endswith("; the best here is other, with 79.0%.")
    without = dataclasses.replace(alone, summary={**alone.summary, "teacher": None}, answers=None)
    assert verdict([without]) == "72.0% top-1 on 12 validation images."


def test_only_settings_that_differ_are_compared() -> None:
    other = facts("other", settings={"method.name": "kd", "seed": 0, "method.temperature": 4.0})
    assert differing_settings([facts(), other]) == [
        ("method.name", ["mcld", "kd"]),
        ("schedule.lr", ["0.05", "–"]),
        ("method.temperature", ["–", "4"]),
    ]


def test_bins_hold_every_image_once() -> None:
    confidence = np.array([0.0, 0.1, 0.5, 0.5, 1.0], dtype=np.float32)
    right = np.array([False, True, True, False, True])
    bins = reliability_bins(confidence, right, bins=10)
    assert [count for *_, count in bins] == [2, 2, 1]
    assert bins[1][:2] == (0.5, 0.5)


class Reader(html.parser.HTMLParser):
    """Collects what a browser would fetch or run, and checks that tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            if key in ("src", "href", "xlink:href"):
                self.links.append(value or "")
            if key == "id":
                self.ids.append(value or "")


@pytest.mark.parametrize("runs", [[facts()], [facts(), facts("alone", method="plain")], [facts(answers=None)]])
def test_the_page_opens_anywhere_and_shows_names_as_they_are(runs: list[RunFacts]) -> None:
    page, figures = run_page(runs)
    reader = Reader()
    reader.feed(page)
    assert "script" not in reader.tags
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in reader.links)
    assert len(reader.ids) == len(set(reader.ids))
    inner = {link[1:] for link in reader.links if link.startswith("#")} | set(re.findall(r"url\(#([^)]*)\)", page))
    assert inner <= set(reader.ids)
    assert len({figure.name for figure in figures}) == len(figures)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x$" in page or runs[0].answers is None
    assert "mcld distill &#39;run=a b&#39;" in page
    assert "somewhere" not in page
    for figure in figures:
        assert "#010203" not in figure.svg
        assert "currentColor" not in as_file(figure.svg)


def test_a_page_of_one_run_has_its_figures_and_one_of_several_has_what_differs() -> None:
    _, one = run_page([facts()])
    assert [figure.name for figure in one] == ["curves", "terms", "reliability", "classes", "confusion"]
    page, several = run_page([facts(), facts("kd", settings={"method.name": "kd"})])
    assert [figure.name for figure in several] == ["curves", "size"]
    assert "Settings that differ" in page
    many = [f"class {i}" for i in range(60)]
    labels = [*range(60), *range(60)]
    page, figures = run_page([facts(classes=many, answers=answers(labels, [0] * 120, labels))])
    assert [figure.name for figure in figures] == ["curves", "terms", "reliability", "scatter"]
    assert "Accuracy of each of 60 classes" in page


def test_what_is_not_known_is_said() -> None:
    page, figures = run_page([facts(answers=None)])
    assert "Not known of small: the answers on the validation images" in page
    assert [figure.name for figure in figures] == ["curves", "terms"]
    other = facts("other", environment={"inputs": {"validation data": "b"}})
    page, _ = run_page([facts(environment={"inputs": {"validation data": "a"}}), other])
    assert "validated on different images: their numbers do not compare" in page


def test_answers_come_from_logits_and_survive_a_file(tmp_path: Path) -> None:
    split = load_data("digits").val
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.nn.functional.one_hot(split.labels, 10) + 2 * torch.randn(len(split), 10, generator=generator)
    teacher = 5 * torch.nn.functional.one_hot(split.labels, 10) + 2 * torch.randn(len(split), 10, generator=generator)
    found = answers_of(logits, most_likely(teacher), split, "digest")
    assert found.predicted.tolist() == logits.argmax(dim=1).tolist()
    assert found.confidence == pytest.approx(logits.softmax(dim=1).amax(dim=1).numpy(), abs=1e-6)
    assert found.calibrated == pytest.approx((logits / found.temperature).softmax(dim=1).amax(dim=1).numpy(), abs=1e-5)
    looks = worth_a_look(found)
    assert set(looks) == {"mistakes", "teacher", "student"}
    wrong = found.predicted != found.labels
    surest = max(found.calibrated[wrong])
    assert found.calibrated[looks["mistakes"][0]] == surest
    assert len(looks["mistakes"]) == min(SHOWN, int(wrong.sum()))
    assert set(found.pictures) == {image for images in looks.values() for image in images}
    file = tmp_path / "answers.npz"
    write_answers(found, file)
    again = read_answers(file)
    assert again.pictures == found.pictures
    for field in dataclasses.fields(Answers):
        np.testing.assert_equal(getattr(again, field.name), getattr(found, field.name))
    write_answers(dataclasses.replace(found, teacher=None, teacher_confidence=None), file)
    assert read_answers(file).teacher is None


def test_a_damaged_file_of_answers_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "answers.npz"
    with pytest.raises(InputError, match="cannot be read"):
        read_answers(file)
    write_answers(answers([0, 1], [0, 1], None), file)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cannot be read \(ValueError\); remove it to make it anew"):
        read_answers(file)
    file.write_bytes(data)
    monkeypatch.setattr("mcld.report.answers._GB", 1e-9)  # an array may be as large as it likes in a bomb
    with pytest.raises(InputError, match=r"cannot be read \(ValueError\); remove it to make it anew"):
        read_answers(file)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(InputError, match=r"cannot be read \(OSError\)"):
        read_answers(file)
