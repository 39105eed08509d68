"""The field's protocol on CIFAR-100, all of it by one command, in pieces of a few minutes if need be.

    python benchmarks/cifar100/gpu.py ../shared --workers 12
    python benchmarks/cifar100/gpu.py carried --parts 1 --workers 12 --minutes 8 --state carried/state --save $OUT

Splits the data, stores the teacher's logits of all views, trains the cells of gpu.yaml and gpu-shuffle.yaml several at
a time, keeps what they measured (docs/results/cifar100/cells-gpu), writes the report and speed.md. The same command
goes on where it was. With --minutes it stops by itself. --save packs what the next machine needs to go on, in files of
at most 15 MiB, and --state unpacks them. --parts 1 trains on a third of the images, whose packs travel by themselves,
in runs of their own.
"""

import argparse
import csv
import itertools
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from mcld.bench.suite_file import read_suite
from mcld.runs.results import RESULTS

HERE = Path(__file__).parent
MOST = 15 * 2**20
DERIVED = {
    ".safetensors",
    ".log",
    ".lock",
    ".npz",
    ".html",
}  # what a run writes anew from its checkpoint, or never reads


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    deadline = None if given.minutes is None else time.monotonic() + 60 * given.minutes
    name = "cifar100" if given.parts == 3 else "cifar100-third"
    prepare_data(given.shared, Path("data") / name, given.parts)
    if given.state is not None:
        unpack(given.state)
    suites = [suite_of(file, name, given.word) for file in given.suite]
    if given.fill if given.fill is not None else torch.cuda.is_available():
        stopped = fill(suites[0], deadline)
    else:
        stopped = False
    for suite in suites:
        if not stopped:
            words = ["bench", str(suite), "--workers", str(given.workers), "--threads", "1"]
            stopped = run(words, deadline) is None
    status = 0
    for suite in suites:
        speed(suite, given.workers)
        status |= run(["bench", str(suite), "--report"], None) or 0 if any(finished(suite)) else 0
    if given.save is not None:
        pack(suites, given.save)
    left = sum(not done for suite in suites for done in finished(suite))
    print(f"{left} cells are left" + ("; the same command goes on" if left else ""))
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "shared", type=Path, help="with data/cifar100/*.npz and teachers/cifar100_streamlined/resnet56.pth"
    )
    parser.add_argument("--parts", type=int, default=3, choices=(1, 3), help="thirds of the training images")
    parser.add_argument("--suite", type=Path, nargs="+", default=[HERE / "gpu.yaml", HERE / "gpu-shuffle.yaml"])
    parser.add_argument("--workers", type=int, default=12, help="cells at a time")
    parser.add_argument("--minutes", type=float, help="stop after so long; running cells save their state")
    parser.add_argument("--fill", action=argparse.BooleanOptionalAction, help="the stores first (default: with a GPU)")
    parser.add_argument("--state", type=Path, metavar="DIR", help="go on from what --save has packed")
    parser.add_argument("--save", type=Path, metavar="DIR", help="pack what is needed to go on, and the reports")
    parser.add_argument("--word", action="append", default=[], help="a further setting of all cells, for a trial")
    return parser


def prepare_data(shared: Path, folder: Path, parts: int) -> None:
    """Split the packs into the files of the suites, and put the teacher's weights beside them."""
    if not (folder / "test.npz").is_file():
        packs = shared / "data" / "cifar100"
        command = [sys.executable, str(HERE / "split.py"), str(packs), "--out", str(folder), "--parts", str(parts)]
        subprocess.run(command, check=True)
    if not (folder / "resnet56.pth").is_file():
        shutil.copyfile(shared / "teachers" / "cifar100_streamlined" / "resnet56.pth", folder / "resnet56.pth")


def suite_of(file: Path, data: str, more: Sequence[str]) -> Path:
    """The suite as it is to be run: with other data or further settings in places of its own, where asked for."""
    own = ("" if data == "cifar100" else "-third") + ("-trial" if more else "")
    if not own:
        return file
    suite: dict[str, Any] = yaml.safe_load(file.read_text().replace("data/cifar100/", f"data/{data}/"))
    suite["methods"] = {name: [words, *more] for name, words in suite["methods"].items()}
    suite |= {key: suite[key] + own for key in ("out", "keep")}
    made = Path(suite["out"]) / "given" / file.name
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(yaml.safe_dump(suite, sort_keys=False))
    return made


def fill(suite: Path, deadline: float | None) -> bool:
    """Store the teacher's logits of all views; whether there was no time for that."""
    common = [word for word in read_suite(str(suite)).common if word.startswith(("data", "teacher"))]
    return run(["teacher-logits", *common, "teacher=resnet56"], deadline) is None


def run(words: Sequence[str], deadline: float | None) -> int | None:
    """Run a command of mcld, and ask it to stop at the deadline: None if that was so, else its status."""
    process = subprocess.Popen([sys.executable, "-m", "mcld", *words])
    try:
        return process.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # it tells its cells, which save their state
        process.wait()
        return None


def finished(suite: Path) -> list[bool]:
    """Of each cell, whether it has results."""
    return [cell.results() is not None for cell in read_suite(str(suite)).cells()]


def speed(suite: Path, workers: int) -> None:
    """Write down how fast it was, over all epochs so far of each method's cells."""
    read = read_suite(str(suite))
    seconds: dict[str, list[float]] = {}
    for cell in read.cells():
        file = cell.run / "metrics.csv"
        if file.is_file():
            with file.open(newline="") as rows:
                times = [0.0, *(float(row["seconds"]) for row in csv.DictReader(rows))]
            seconds.setdefault(cell.method, []).extend(b - a for a, b in itertools.pairwise(times))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    lines = [f"# Speed of {read.name}", "", f"{device}, {workers} cells at a time, {time.strftime('%Y-%m-%d')}.", ""]
    lines += ["| method | epochs run | seconds per epoch (median) |", "|---|---|---|"]
    lines += [f"| {name} | {len(all_)} | {statistics.median(all_):.2f} |" for name, all_ in seconds.items() if all_]
    folder = read.out / "reports" / read.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "speed.md").write_text("\n".join([*lines, ""]))


def pack(suites: Sequence[Path], folder: Path) -> None:
    """Put what has been measured, the checkpoints of what is under way, and the reports into a few tar files."""
    files: list[Path] = []
    for suite in suites:
        read = read_suite(str(suite))
        for cell in read.cells():
            done = cell.results() is not None
            if done and cell.kept is not None and cell.kept.is_file():
                files.append(cell.kept)
            if cell.run.is_dir():
                inside = [file for file in cell.run.rglob("*") if file.is_file() and file.suffix not in DERIVED]
                files += [f for f in inside if (f.name in (RESULTS, "metrics.csv") if done else "events" not in f.name)]
        reports = read.out / "reports" / read.name
        files += [file for file in reports.glob("*") if file.suffix in (".md", ".csv")]
    groups: list[list[Path]] = [[]]
    for file in files:
        if sum(one.stat().st_size + 1024 for one in [*groups[-1], file]) > MOST and groups[-1]:
            groups.append([])
        groups[-1].append(file)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("state-*.tar"):
        old.unlink()
    for number, group in enumerate(groups):
        with tarfile.open(folder / f"state-{number}.tar", "w") as tar:
            for file in group:
                tar.add(file)
    (folder / "root.txt").write_text(str(Path.cwd()))
    print(f"{len(files)} files in {len(groups)} packs, in {folder}")


def unpack(folder: Path) -> None:
    """Put the packed files where they were; a run remembers its paths, so that must be the same folder."""
    root = folder / "root.txt"
    if root.is_file() and root.read_text() != str(Path.cwd()):
        sys.exit(f"{folder} was packed in {root.read_text()}; run this command there, not in {Path.cwd()}")
    for file in sorted(folder.glob("state-*.tar")):
        with tarfile.open(file) as tar:
            tar.extractall(".", filter="data")


if __name__ == "__main__":
    sys.exit(main())
