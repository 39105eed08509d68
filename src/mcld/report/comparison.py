"""The results of a bench, method by method, and as tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mcld.configs.published import published_rows
from mcld.runs.results import Results
from mcld.runs.statistics import Difference, Spread, paired_difference, spread
from mcld.text import csv_text


@dataclass(frozen=True)
class Row:
    """One method of one pair; shares are in [0, 1], all but ``validation`` on the test data.

    Attributes:
        pair: its name.
        method: its name.
        runs: the results of its seeds, in the order of the seeds.
        missing: planned seeds that are not finished.
        last: top-1 of the last weights.
        best: top-1 of the weights of the epoch with the best validation top-1.
        validation: top-1 of the last weights on the validation data.
        agreement: with the teacher, of the last weights.
        ece: calibration error of the last weights.
        nll: mean cross-entropy of the last weights, in nats.
        seconds: of an epoch.
        to_baseline: last top-1 minus the baseline's, over the seeds that both have; None without one.
        to_rival: last top-1 minus the best rival's; None for that rival itself.
    """

    pair: str
    method: str
    runs: Sequence[Results]
    missing: Sequence[int]
    last: Spread
    best: Spread
    validation: Spread
    agreement: Spread
    ece: Spread
    nll: Spread
    seconds: Spread
    to_baseline: Difference | None
    to_rival: Difference | None

    @property
    def ours(self) -> bool:
        """Whether MCLD is in it."""
        return any(_is_mcld(part) for part in parts_of(self.runs[0]))


@dataclass(frozen=True)
class Comparison:
    """All methods of one pair.

    Attributes:
        pair: its name.
        rows: of the methods that have a finished run, in the suite's order.
        absent: methods that have none.
        baseline: the method that all are compared with; None for none.
        rival: the rival (neither MCLD nor plain) with the best mean validation top-1; None when there is none.
    """

    pair: str
    rows: Sequence[Row]
    absent: Sequence[str]
    baseline: str | None
    rival: str | None

    @property
    def best(self) -> Row:
        """The method with the best mean validation top-1."""
        return max(self.rows, key=lambda row: row.validation.mean)

    @property
    def best_ours(self) -> Row | None:
        """The method with MCLD in it that has the best mean validation top-1."""
        return max((row for row in self.rows if row.ours), key=lambda row: row.validation.mean, default=None)

    @property
    def notable(self) -> list[Row]:
        """Those worth a picture: the baseline, the best rival, and the best on the validation data, at most six."""
        ranked = sorted(self.rows, key=lambda row: -row.validation.mean)
        first = [row for row in self.rows if row.method in (self.baseline, self.rival) or row is self.best_ours]
        chosen = [row.method for row in [*first, *(row for row in ranked if row not in first)][:6]]
        return [row for row in self.rows if row.method in chosen]


def compare(
    pair: str, planned: Mapping[str, Sequence[int]], results: Sequence[Results], baseline: str | None
) -> Comparison:
    """Put the finished runs of a pair beside one another.

    Args:
        pair: its name.
        planned: the methods with their seeds, in order.
        results: finished runs of this pair.
        baseline: a method that the others are compared with.
    """
    by_method = {
        method: sorted((r for r in results if r.cell["method"] == method), key=lambda r: int(r.cell["seed"]))
        for method in planned
    }
    runs = {method: found for method, found in by_method.items() if found}
    validation = {method: _mean(found, lambda r: r.summary["last"]["top1"]) for method, found in runs.items()}
    rivals = [method for method, found in runs.items() if _is_rival(found[0])]
    rival = max(rivals, key=lambda method: validation[method].mean) if rivals else None
    rows = []
    for method, found in runs.items():
        done = [int(r.cell["seed"]) for r in found]
        rows.append(
            Row(
                pair=pair,
                method=method,
                runs=found,
                missing=[seed for seed in planned[method] if seed not in done],
                last=_mean(found, lambda r: r.test["last"]["top1"]),
                best=_mean(found, lambda r: r.test["best"]["top1"]),
                validation=validation[method],
                agreement=_mean(found, lambda r: r.test["last"]["agreement"]),
                ece=_mean(found, lambda r: r.test["last"]["ece"]),
                nll=_mean(found, lambda r: r.test["last"]["nll"]),
                seconds=_mean(found, lambda r: r.seconds_per_epoch),
                to_baseline=_difference(found, runs.get(baseline or "", []), method == baseline),
                to_rival=_difference(found, runs.get(rival or "", []), method == rival),
            )
        )
    absent = [method for method in planned if method not in runs]
    return Comparison(pair, rows, absent, baseline if baseline in runs else None, rival)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """The tables as Markdown."""
    lines = []
    for comparison in comparisons:
        titles, rows = table(comparison)
        lines += [f"### {comparison.pair}", "", "| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        lines += ["", *[f"No finished run: {', '.join(comparison.absent)}." for _ in comparison.absent[:1]], ""]
    return "\n".join(lines)


def table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Titles, and for each method its cells, for people: per cent and points."""
    titles = ["method", "seeds", "top-1 last"]
    against: list[Callable[[Row], Difference | None]] = []  # beside the number, so that a phone shows them, too
    if comparison.baseline:
        titles.append(f"− {comparison.baseline} (95% interval)")
        against.append(lambda row: row.to_baseline)
    if comparison.rival and comparison.rival != comparison.baseline:
        titles.append(f"− {comparison.rival}, the best rival")
        against.append(lambda row: row.to_rival)
    numbers = {row.method: published(row, comparison.rows) for row in comparison.rows}
    if any(numbers.values()):
        titles.append("published")
    titles += ["top-1 best epoch", "validation", "agreement", "calibration error", "s / epoch"]
    rows = []
    for row in comparison.rows:
        seeds = f"{row.last.n}" + (f" of {row.last.n + len(row.missing)}" if row.missing else "")
        cells = [row.method, seeds, per_cent(row.last), *(points(find(row)) for find in against)]
        if any(numbers.values()):
            cells.append(numbers[row.method] or "–")
        cells += [per_cent(row.best), per_cent(row.validation), per_cent(row.agreement, 1), per_cent(row.ece, 1)]
        rows.append([*cells, f"{row.seconds.mean:.1f}"])
    return titles, rows


def published(row: Row, rows: Sequence[Row]) -> str:
    """What was reported for the published row that a method follows, with its protocol; empty for none.

    That of another teacher or student does not count. Plain training follows the row of the student alone, on the data
    set of the others' rows.

    Args:
        row: of the method.
        rows: of all methods of the pair.
    """
    settings = row.runs[0].settings
    name, teacher = settings.get("published"), settings["teacher.name"]
    if parts_of(row.runs[0]) == ["plain"]:
        others = [other.runs[0].settings.get("published") for other in rows]
        data = next((str(other).partition("/")[0] for other in others if other), None)
        name, teacher = f"{data}/{settings['student.name']}", None
    found = next((one for one in published_rows() if one.id == name), None)
    if found is None or not found.numbers or (found.teacher, found.student) != (teacher, settings["student.name"]):
        return ""
    return f"{found.numbers[0].top1:.2f} ({found.numbers[0].protocol})"


def table_csv(comparisons: Sequence[Comparison]) -> str:
    """The tables as CSV: shares and seconds, each with its standard deviation and n."""
    rows = []
    for comparison in comparisons:
        for row in comparison.rows:
            flat: dict[str, object] = {"pair": row.pair, "method": row.method, "n": row.last.n}
            flat["published"] = published(row, comparison.rows)
            for name in ("last", "best", "validation", "agreement", "ece", "nll", "seconds"):
                value: Spread = getattr(row, name)
                flat |= {name: value.mean, f"{name}_sd": value.sd}
            for name, against in (("to_baseline", comparison.baseline), ("to_rival", comparison.rival)):
                found: Difference | None = getattr(row, name)
                flat[f"{name}_of"] = against
                for part in ("mean", "low", "high", "seeds", "images"):
                    flat[f"{name}_{part}"] = None if found is None else getattr(found, part)
            rows.append(flat)
    return csv_text(list(rows[0]) if rows else [], rows)


def runs_csv(comparisons: Sequence[Comparison]) -> str:
    """Every run as a row of CSV."""
    rows = []
    for run in (run for comparison in comparisons for row in comparison.rows for run in row.runs):
        flat: dict[str, object] = dict(run.cell)
        for weights in ("last", "best"):
            flat |= {f"{weights}_{name}": run.test[weights][name] for name in ("top1", "nll", "ece", "agreement")}
        flat |= {
            "validation_last": run.summary["last"]["top1"],
            "validation_best": run.summary["best"]["top1"],
            "best_epoch": run.summary["best"]["epoch"],
            "teacher_top1": run.test["teacher"]["top1"],
            "images": run.test["images"],
            "seconds_per_epoch": run.seconds_per_epoch,
            "date": run.environment["date"],
            "commit": (run.environment.get("git") or {}).get("commit"),
        }
        rows.append(flat)
    return csv_text(list(rows[0]) if rows else [], rows)


def per_cent(value: Spread, digits: int = 2) -> str:
    """A share as per cent, with its standard deviation where there is one."""
    text = f"{100 * value.mean:.{digits}f}"
    return text if value.sd is None else f"{text} ± {100 * value.sd:.{digits}f}"


def points(value: Difference | None) -> str:
    """A difference in percentage points, with its interval."""
    if value is None:
        return "–"
    return f"{100 * value.mean:+.2f} [{100 * value.low:+.2f}, {100 * value.high:+.2f}]".replace("-", "−")


def _mean(runs: Sequence[Results], value: Callable[[Results], float]) -> Spread:
    return spread([value(run) for run in runs])


def _difference(ours: Sequence[Results], theirs: Sequence[Results], same: bool) -> Difference | None:
    """Over the seeds that both have, and only on the same test images."""
    other = {run.cell["seed"]: run for run in theirs}
    pairs = [(run, other[run.cell["seed"]]) for run in ours if run.cell["seed"] in other]
    if same or not pairs:
        return None
    first, second = (np.stack([pair[side].correct("last") for pair in pairs]) for side in (0, 1))
    return paired_difference(first, second)


def _is_rival(run: Results) -> bool:
    return not any(part == "plain" or _is_mcld(part) for part in parts_of(run))


def _is_mcld(part: str) -> bool:
    """Whether a method is MCLD, or a form of it that a plugin has (``mcld-ahead``)."""
    return part.partition("-")[0] == "mcld"


def parts_of(run: Results) -> list[str]:
    """The registry names of what the method combines."""
    return str(run.settings["method.name"]).split("+")
