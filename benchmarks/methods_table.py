"""Every method for a few epochs on real images: how well it does, and what it costs.

    python benchmarks/methods_table.py accuracy --data tiny20 --teacher runs/teacher --out runs/methods --workers 2
    python benchmarks/methods_table.py cost --data tiny20 --teacher runs/teacher --out runs/methods
    python benchmarks/methods_table.py table --out runs/methods

``--data PREFIX`` names PREFIX_train.npz and PREFIX_val.npz, with ``images`` and ``labels``.

``accuracy`` trains with each method, one process of one thread and one run directory under --out for each; finished
ones are not run again. A busy machine does no harm.

``cost`` wants a quiet machine. It times a training step of each method (batch, live teacher, student, loss, backward,
optimiser) in turn with one of plain training, so that what else the machine does hits both alike, and the method's loss
alone, forward and backward, on outputs that are there already. Peak memory is that of a process of its own which builds
everything and takes a few steps. Each method's figures are a file under --out; measured ones are not measured again.

``table`` joins both and writes a dated JSON and a Markdown table beside it into --results.
"""

import argparse
import concurrent.futures
import json
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from _harness import RESULTS, in_fresh_process, in_turn, peak_memory, ratios, spread, write_results
from mcld.assembly.optimizers import create_optimizer
from mcld.assembly.parts import build_parts
from mcld.configs.compose import compose
from mcld.configs.schema import Distill
from mcld.data import Batch, TrainLoader
from mcld.files import atomic_write_text
from mcld.methods import Outputs, list_methods, method_class
from mcld.runs import RunDirectory
from mcld.runs.environment import describe_environment
from mcld.teacher import LiveTeacher

MIB = 2**20


def words_of(given: argparse.Namespace, name: str) -> list[str]:
    """The settings of the run with one method."""
    return [
        "data=arrays",
        f"data.train={given.data}_train.npz",
        f"data.val={given.data}_val.npz",
        f"teacher={given.teacher}",
        f"student={given.student}",
        f"schedule.epochs={given.epochs}",
        f"method={name}",
    ]


def train(given: argparse.Namespace, name: str) -> bool:
    """One run, unless it is finished; whether it is now. What it prints is beside its directory."""
    path = given.out / name
    if RunDirectory(path).summary.exists():
        return True
    words = [*words_of(given, name), "threads=1", f"run={path}", "--force"]
    command = [sys.executable, "-m", "mcld", "distill", *words]
    log = os.open(path.with_suffix(".out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    actions = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
    pid = os.posix_spawn(command[0], command, {**os.environ, "OMP_NUM_THREADS": "1"}, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    os.close(log)
    return os.waitstatus_to_exitcode(status) == 0


def measure_accuracy(given: argparse.Namespace) -> None:
    """All runs."""
    given.out.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(given.workers) as pool:
        for name, done in [(name, pool.submit(train, given, name)) for name in given.methods]:
            print(f"{name}: {'done' if done.result() else f'FAILED, see {given.out / name}.out'}", flush=True)


class Training:
    """The parts of a run and its steps, as the training loop takes them."""

    def __init__(self, given: argparse.Namespace, name: str) -> None:
        # Plain training needs no teacher; in the runs it has one, to see how far they agree.
        words = [w for w in words_of(given, name) if method_class(name).needs or not w.startswith("teacher=")]
        settings = compose("distill", words)
        assert isinstance(settings, Distill)
        parts = build_parts(settings)
        settings = parts.settings
        device = torch.device(given.device)
        self.data = parts.data.to(device)
        self.method = parts.method
        self.distiller = parts.in_layout().to(device).train()
        self.clip = settings.optimizer.clip
        assert settings.schedule.lr is not None
        self.optimizer = create_optimizer(settings.optimizer, settings.schedule.lr / 100, self.distiller)
        self.teacher: LiveTeacher | None = None
        if parts.teacher is not None:
            self.teacher = LiveTeacher(parts.teacher.to(device), parts.distiller.teacher_features)
        size = settings.data.batch_size
        self.loader = TrainLoader(self.data.train, size, settings.seed, device=device, views=self.method.views)
        self.steps_per_epoch = self.loader.steps_per_epoch
        self.batches = self._endless()

    def _endless(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            yield from self.loader.epoch(epoch)
            epoch += 1

    def step(self) -> None:
        """One step of training."""
        batch = next(self.batches)
        teacher = None if self.teacher is None else self.teacher(batch)
        out = self.distiller(batch.image, batch.label, progress=0.5, index=batch.index, teacher_logits=teacher)
        torch.autograd.backward(out.loss)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.distiller.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def keep_outputs(self) -> None:
        """Keep one batch's outputs of both networks, for :meth:`loss`."""
        assert self.teacher is not None
        self.batch = next(self.batches)
        self.outputs = self.teacher(self.batch)
        self.own = leaves(self.distiller.student_features(self.batch.image))

    def loss(self) -> None:
        """The method's loss alone, forward and backward, to the student's outputs and the method's parameters."""
        terms = self.method(self.own, self.outputs, self.batch.label, 0.5, self.batch.index)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())


def leaves(outputs: Outputs) -> Outputs:
    """The same outputs as leaves of a graph, each with a gradient of its own."""
    pooled, classifier = outputs.pooled, outputs.classifier
    return Outputs(
        outputs.logits.detach().requires_grad_(),
        None if pooled is None else pooled.detach().requires_grad_(),
        tuple(m.detach().requires_grad_() for m in outputs.maps),
        None if classifier is None else (classifier[0].detach().requires_grad_(), classifier[1]),
        None if outputs.other is None else leaves(outputs.other),
    )


def measure_cost(given: argparse.Namespace) -> None:
    """Seconds and memory of every method, each beside plain training."""
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    folder = given.out / "cost"
    folder.mkdir(parents=True, exist_ok=True)
    plain = Training(given, "plain")
    for name in given.methods:
        file = folder / f"{name}.json"
        if file.exists():
            continue
        sides = {"plain": plain.step}
        if name != "plain":
            method = Training(given, name)
            method.keep_outputs()
            sides |= {"method": method.step, "loss": method.loss}
        seconds = in_turn(sides, given.repeats, device, calls=given.calls, warm_up=2)
        peaks = [peak_of(given, name) for _ in range(given.processes)]
        row = {
            "method": name,
            "seconds_per_step": seconds,
            "steps_per_epoch": plain.steps_per_epoch,
            "peak_bytes": peaks,
            "settings": {key: str(value) for key, value in vars(given).items() if key not in ("out", "methods")},
            "environment": {**describe_environment(), "load": os.getloadavg()[0]},
        }
        atomic_write_text(file, json.dumps(row, indent=1) + "\n")
        own = "" if name == "plain" else f"  loss alone {spread(seconds['loss'], 'ms', 1e3)}"
        step = seconds.get("method", seconds["plain"])
        times = "" if name == "plain" else f"  {spread(ratios(step, seconds['plain']), '× plain')}"
        print(f"{name:>9}: step {spread(step, 'ms', 1e3)}{times}{own}  peak {max(peaks) / MIB:.0f} MiB", flush=True)


def peak_of(given: argparse.Namespace, name: str) -> int:
    """The peak of a process that builds everything and takes a few steps, in bytes."""
    words = ["--data", given.data, "--teacher", given.teacher, "--student", given.student, "--out", str(given.out)]
    more = ["--device", given.device, "--threads", str(given.threads), "--epochs", str(given.epochs)]
    peak: int = in_fresh_process("cost", *words, *more, "--peak", name)
    return peak


def report_peak(given: argparse.Namespace) -> None:
    """Print the peak of this process; for :func:`peak_of`."""
    torch.set_num_threads(given.threads)

    def run() -> None:
        training = Training(given, given.peak)
        for _ in range(8):
            training.step()

    print(peak_memory(run, torch.device(given.device)))


def row_of(given: argparse.Namespace, name: str) -> dict[str, Any]:
    """What was measured of one method; None for what was not."""
    run, file = RunDirectory(given.out / name), given.out / "cost" / f"{name}.json"
    row: dict[str, Any] = {"method": name, "family": method_class(name).family, "accuracy": None, "cost": None}
    if run.summary.exists():
        summary = run.read_json(run.summary)
        row["accuracy"] = {
            "top1": summary["last"]["top1"],
            "agreement": summary["last"].get("agreement"),
            "epochs": summary["epochs"],
            "teacher_top1": (summary["teacher"] or {}).get("top1"),
            "environment": run.read_json(run.path / "environment.json"),
        }
    if file.exists():
        row["cost"] = json.loads(file.read_text())
    return row


def write_table(given: argparse.Namespace) -> None:
    """Join what was measured into one dated result."""
    rows = [row_of(given, name) for name in given.methods]
    if not any(row["accuracy"] or row["cost"] for row in rows):
        raise SystemExit(f"there is nothing in {given.out}; run accuracy and cost first")
    plain = rows[0]["cost"] if rows[0]["method"] == "plain" else None
    stem = write_results("methods-table", {"rows": rows}, given.results)
    lines = [*heading(rows), "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cells(row, plain)) + " |" for row in rows]
    atomic_write_text(stem.with_suffix(".md"), "\n".join(lines) + "\n")
    print("\n".join(lines))


COLUMNS = (
    "method",
    "family",
    "top-1 last",
    "agrees with teacher",
    "step over plain training's",
    "seconds per epoch",
    "loss alone (ms per step)",
    "memory over plain training (MiB)",
)


def heading(rows: list[dict[str, Any]]) -> list[str]:
    """What the figures are of."""
    runs = [row["accuracy"] for row in rows if row["accuracy"]]
    costs = [row["cost"] for row in rows if row["cost"]]
    lines = []
    if runs:
        teacher = next((run["teacher_top1"] for run in runs if run["teacher_top1"]), None)
        lines += [
            f"Accuracy on the validation images after {runs[0]['epochs']} epochs with each method's defaults, seed 0"
            + ("." if teacher is None else f"; the teacher has {teacher:.1%}."),
            "One seed and a few epochs: it shows that each method works, not which is better.",
        ]
    if costs:
        settings, environment = costs[0]["settings"], costs[0]["environment"]
        loads = [cost["environment"]["load"] for cost in costs]
        lines += [
            f"Cost on {environment['processor']} ({settings['device']}, {settings['threads']} thread), torch "
            f"{environment['packages']['torch']}, student {settings['student']}, load {min(loads):.1f} to "
            f"{max(loads):.1f};",
            f"medians of {settings['repeats']} turns with plain training, in brackets the smallest and the largest.",
        ]
    return lines


def cells(row: dict[str, Any], plain: dict[str, Any] | None) -> list[str]:
    """One line of the table."""
    accuracy, cost = row["accuracy"], row["cost"]
    line = [row["method"], row["family"] or "-", "no run", "", "", "", "", ""]
    if accuracy:
        line[2] = f"{accuracy['top1']:.1%}"
        line[3] = "-" if accuracy["agreement"] is None else f"{accuracy['agreement']:.1%}"
    if cost:
        seconds = cost["seconds_per_step"]
        step = seconds.get("method", seconds["plain"])
        times = ratios(step, seconds["plain"])
        line[4] = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        line[5] = f"{statistics.median(step) * cost['steps_per_epoch']:.1f}"
        line[6] = f"{statistics.median(seconds['loss']) * 1e3:.1f}" if "loss" in seconds else "-"
        if plain:
            extra = (statistics.median(cost["peak_bytes"]) - statistics.median(plain["peak_bytes"])) / MIB
            line[7] = f"{extra:+.0f}"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    phases = parser.add_subparsers(dest="phase", required=True)
    everyone = ["plain", *(name for name in list_methods() if name != "plain")]
    for phase in ("accuracy", "cost", "table"):
        sub = phases.add_parser(phase)
        sub.add_argument("--out", required=True, type=Path, metavar="DIR")
        sub.add_argument(
            "--methods", nargs="*", default=everyone, choices=everyone, metavar="NAME", help="default: all"
        )
        if phase == "table":
            sub.add_argument("--results", type=Path, default=RESULTS)
            continue
        sub.add_argument("--data", required=True, metavar="PREFIX")
        sub.add_argument("--teacher", required=True, metavar="RUN")
        sub.add_argument("--student", default="resnet8")
        sub.add_argument("--epochs", type=int, default=3)
        if phase == "accuracy":
            sub.add_argument("--workers", type=int, default=1, help="processes at once")
        else:
            sub.add_argument("--device", default="cpu")
            sub.add_argument("--threads", type=int, default=1)
            sub.add_argument("--repeats", type=int, default=9, help="turns of each side")
            sub.add_argument("--calls", type=int, default=3, help="steps in one turn")
            sub.add_argument("--processes", type=int, default=3, help="for the peak memory of each method")
            sub.add_argument("--peak", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase == "accuracy":
        measure_accuracy(given)
    elif given.phase == "table":
        write_table(given)
    elif given.peak:
        report_peak(given)
    else:
        measure_cost(given)


if __name__ == "__main__":
    main()
