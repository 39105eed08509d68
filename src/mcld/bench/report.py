"""The report of a suite, from the results of its finished cells alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mcld
from mcld.bench.suite import Cell, Suite, difference
from mcld.configs.decisive import flatten
from mcld.errors import InputError
from mcld.files import atomic_write_text
from mcld.report import bench_figures as drawn
from mcld.report.comparison import Comparison, Row, compare, markdown, per_cent, points, runs_csv, table, table_csv
from mcld.report.html import Figure, render, write_figures
from mcld.runs.results import Results
from mcld.runs.statistics import REPLICATES


def write_report(suite: Suite, folder: Path) -> list[str]:
    """Write ``index.html``, ``table.md``, ``table.csv`` and ``runs.csv``.

    Args:
        suite: whose finished cells are reported.
        folder: is made if need be; files of an earlier report are replaced.

    Returns:
        Lines about what was found.

    Raises:
        InputError: when no cell is finished, or cells of one pair were tested on different images.
    """
    cells = suite.cells()
    found = {cell.id: results for cell in cells if (results := cell.results()) is not None}
    if not found:
        raise InputError(f"{suite.file}: none of {len(cells)} cells is finished, in {suite.out}; run it first")
    sections: list[dict[str, Any]] = []
    comparisons, lines = [], []
    for pair in suite.pairs:
        own = [found[cell.id] for cell in cells if cell.pair == pair and cell.id in found]
        if not own:
            lines.append(f"{pair}: no cell is finished")
            continue
        if len({results.test["fingerprint"] for results in own}) > 1:
            raise InputError(f"{pair}: its cells were tested on different images; run those of one kind again")
        planned = {method: entry.seeds for method, entry in suite.methods.items()}
        comparison = compare(pair, planned, own, suite.baseline)
        comparisons.append(comparison)
        notices, said = _notices(comparison, own), lead(comparison)
        titles, rows = table(comparison)
        sections.append(
            {
                "title": pair if len(suite.pairs) > 1 else "",
                "lead": said,
                "notices": notices,
                "titles": titles,
                "rows": rows,
                "best": comparison.best.method,
                "figures": _figures(comparison, f"pair{len(comparisons)}" if len(suite.pairs) > 1 else "bench"),
            }
        )
        lines += [f"{pair}: {said}", *notices]
    changed = [text for cell in cells if cell.id in found and (text := _changed(cell, found[cell.id]))]
    notices = []
    if len(found) < len(cells):
        notices.append(f"{len(found)} of {len(cells)} cells are finished; the rest is missing from every number here.")
        lines.insert(0, notices[0])
    if changed:
        notices.append(f"Measured with other settings than the suite has now: {'; '.join(changed)}")
    note = "\n".join(f"{text}\n" for text in notices)
    folder.mkdir(parents=True, exist_ok=True)
    runs = list(found.values())
    text = render(
        "bench.html",
        {
            "title": suite.title,
            "subtitle": f"{suite.name}: {', '.join(suite.pairs)}; {len(suite.methods)} methods, {len(runs)} finished",
            "notices": notices,
            "sections": sections,
            "facts": facts(suite, runs),
            "commands": [f"mcld bench {suite.file} --workers 2", f"mcld bench {suite.file} --report"],
            "settings": [(name, " ".join(entry.words)) for name, entry in suite.methods.items()],
            "version": mcld.__version__,
        },
    )
    write_figures([figure for section in sections for figure in section["figures"]], folder)
    atomic_write_text(folder / "index.html", text)
    head = f"# {suite.title}\n\n{note}\n" if note else f"# {suite.title}\n\n"
    atomic_write_text(folder / "table.md", head + markdown(comparisons) + _definitions(suite, runs))
    atomic_write_text(folder / "table.csv", table_csv(comparisons))
    atomic_write_text(folder / "runs.csv", runs_csv(comparisons))
    return [*lines, f"the report: {folder / 'index.html'}"]


def lead(comparison: Comparison) -> str:
    """The result of a pair in a few sentences."""
    best, ours = comparison.best, comparison.best_ours
    images, teacher = best.runs[0].test["images"], best.runs[0].test["teacher"]["top1"]
    text = f"Best on the validation images: {_result(best, comparison)}"
    if ours is not None and ours is not best:
        text += f" The best with MCLD: {_result(ours, comparison)}"
    return f"{text} On {images:,} test images, after the last epoch; the teacher has {teacher:.2%}."


def _result(row: Row, comparison: Comparison) -> str:
    seeds = f"{row.last.n} seed{'s' * (row.last.n > 1)}"
    text = f"{row.method}, with {per_cent(row.last)}% top-1 ({seeds})"
    against = {comparison.rival: row.to_rival, comparison.baseline: row.to_baseline}
    for name, found in against.items():
        if found is not None:
            whom = f"the best rival, {name}," if name == comparison.rival else name
            unclear = "" if found.low > 0 or found.high < 0 else ", which holds 0"
            text += f"; its difference to {whom} is {points(found)} points{unclear}"
    return f"{text}."


def facts(suite: Suite, runs: Sequence[Results]) -> list[tuple[str, list[str]]]:
    """What a reader must know to judge the numbers."""
    first = runs[0]
    images = first.summary["images"]
    environments = [run.environment for run in runs]
    versions = {
        ", ".join(f"{k} {v}" for k, v in e["packages"].items() if v) + f", Python {e['python']}" for e in environments
    }
    hardware = {
        f"{e['processor']}, {e['cores']} cores, {e['threads']} thread(s) a run"
        + (f", {', '.join(e['gpus'])}" if e["gpus"] else "")
        for e in environments
    }
    commits = sorted(
        {
            f"{git['commit'][:12]}{' with changes' if git['changed'] else ''}"
            for e in environments
            if (git := e.get("git"))
        }
    )
    dates = sorted(str(e["date"])[:10] for e in environments)
    teacher = first.summary["teacher"]
    views: dict[str, list[str]] = {}  # a method may show a second view of another kind
    for run in runs:
        named = views.setdefault(run.summary["views"], [])
        if run.cell["method"] not in named:
            named.append(run.cell["method"])
    return [
        (
            "Images",
            [
                f"{images['train']:,} to train on, {images['validation']:,} to choose on (validation), "
                f"{first.test['images']:,} others for every number reported (test)."
                if suite.test
                else f"{images['train']:,} to train on, {first.test['images']:,} to report on (test). Validation "
                "images are the same, as in the field: the best epoch, and the best method, are chosen on the images "
                "that are reported on, and so too good; the last epoch's number is not chosen."
            ],
        ),
        (
            "Views of an image to train on",
            list(views) if len(views) == 1 else [f"{', '.join(named)}: {shown}." for shown, named in views.items()],
        ),
        (
            "Teacher",
            [
                f"{teacher['name']}: {first.test['teacher']['top1']:.2%} on the test images, calibration error "
                f"{first.test['teacher']['ece']:.2%}; its weights have the SHA-256 "
                + ", ".join(sorted({str(e["inputs"].get("teacher's weights"))[:16] for e in environments}))
            ],
        ),
        ("Settings of all cells", [" ".join(suite.common)]),
        (
            "Pairing",
            ["Seed k gives every method the same first student and the same order of the same views of the images."],
        ),
        (
            "Differences",
            [
                "Paired by seed and by image. The 95% interval is from a bootstrap that draws both seeds and test "
                f"images anew ({REPLICATES:,} times); with one seed it carries the test images only, not the chance "
                "of training.",
                "The best rival is the method without MCLD (plain training aside) with the best mean validation top-1.",
            ],
        ),
        (
            "Calibration error",
            [
                "Expected calibration error with 15 bins of equal width in the highest softmax probability: the mean "
                "over the images of |accuracy of the bin − mean confidence of the bin|."
            ],
        ),
        ("Agreement", ["The share of test images on which student and teacher name the same class."]),
        ("Seconds per epoch", ["The median over a run's epochs, with validation; it depends on what else ran."]),
        ("Hardware", sorted(hardware)),
        ("Versions", sorted(versions)),
        ("Commit", commits or ["unknown: the runs were not made in a git checkout"]),
        ("Dates of the runs", [dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"]),
    ]


def _definitions(suite: Suite, runs: Sequence[Results]) -> str:
    lines = [f"- {term}: {' '.join(values)}" for term, values in facts(suite, runs)]
    return "\n".join(["How it was measured:", "", *lines, "", f"Again: `mcld bench {suite.file}`", ""])


def _notices(comparison: Comparison, runs: Sequence[Results]) -> list[str]:
    notices = []
    missing = [f"{row.method}: seed {', '.join(map(str, row.missing))}" for row in comparison.rows if row.missing]
    if missing:
        notices.append(f"Seeds that are missing: {'; '.join(missing)}.")
    if comparison.absent:
        notices.append(f"Methods without a finished run: {', '.join(comparison.absent)}.")
    single = [row.method for row in comparison.rows if row.last.n == 1]
    if single:
        who = "Every method" if len(single) == len(comparison.rows) else ", ".join(single)
        notices.append(f"{who}: one seed only, so nothing is known of the spread over seeds.")
    for name in ("training data", "validation data", "teacher's weights"):
        if len({str(run.environment["inputs"].get(name)) for run in runs}) > 1:
            notices.append(f"The {name} differ between the runs of this table: they are not one experiment.")
    return notices


def _figures(comparison: Comparison, name: str) -> list[Figure]:
    grey = " Grey: the other methods." if len(comparison.notable) < len(comparison.rows) else ""
    shown = ", ".join(row.method for row in comparison.notable)
    made = [
        Figure(
            f"{name}-curves",
            "Learning curves",
            drawn.learning_curves(comparison, f"{name}-curves"),
            f"Validation top-1 over epochs of {shown}",
            "Validation top-1; the band is one standard deviation over the seeds." + grey,
        )
    ]
    if any(row.to_baseline for row in comparison.rows):
        made.append(
            Figure(
                f"{name}-differences",
                f"Difference to {comparison.baseline}",
                drawn.differences(comparison, f"{name}-differences"),
                "; ".join(f"{row.method} {points(row.to_baseline)}" for row in comparison.rows if row.to_baseline),
                "Points of test top-1 after the last epoch, paired by seed and image, with the 95% interval. "
                "Blue: MCLD.",
            )
        )
    made += [
        Figure(
            f"{name}-cost",
            "Accuracy and cost",
            drawn.accuracy_and_cost(comparison, f"{name}-cost"),
            "; ".join(f"{r.method}: {per_cent(r.last)}% at {r.seconds.mean:.3g} s" for r in comparison.notable),
            "Test top-1 with its standard deviation over the seeds, and what an epoch takes." + grey,
        ),
        Figure(
            f"{name}-terms",
            "Share of each loss term",
            drawn.term_shares(comparison, f"{name}-terms"),
            f"Shares of the loss terms over training of {shown}",
            "Of the weighted loss, by epoch; ce is the cross-entropy with the labels.",
        ),
        Figure(
            f"{name}-correlations",
            "Correlations of classes, student against teacher",
            drawn.correlation_maps(comparison, f"{name}-correlations"),
            f"Heat maps of the difference in class correlations for {shown}",
            "How far the correlation of two classes' logits over the test images is from the teacher's; lighter is "
            "nearer.",
        ),
    ]
    if features := drawn.feature_maps(comparison, f"{name}-features"):
        made.append(
            Figure(
                f"{name}-features",
                "Features",
                features,
                f"t-SNE of the features of {shown}",
                "t-SNE (perplexity 30) of the pooled features of 50 test images of each of the first ten classes, last "
                "weights, first seed; colour is the class. Distances between groups mean little.",
            )
        )
    return made


def _changed(cell: Cell, results: Results) -> str:
    text = difference(cell, flatten(cell.settings()), results.settings, resolved=False)
    return f"{cell.id}: {text}" if text else ""
