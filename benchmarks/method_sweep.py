"""Eight methods with one teacher: the wall-clock of all runs with a shared store, against the same runs without.

    python benchmarks/method_sweep.py --images 640 --epochs 2

Every run is a whole ``mcld distill``, evaluation and files included, on made-up images in the shape of CIFAR-100. With
and without take turns, method by method. The store is empty at the start: the first method fills it and pays for that.
"""

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from _harness import RESULTS, ratios, spread, timed, write_results
from _runs import made_up_images, teacher_words
from mcld.commands.run import start
from mcld.configs.compose import compose
from mcld.display import Display

METHODS = ("kd", "dkd", "nkd", "dist", "ttm", "wttm", "wsld", "mcld")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet32x4")
    parser.add_argument("--student", default="resnet8x4")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--images", type=int, default=640, help="in an epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    result: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(given).items() if k != "results"}}
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [
            *made_up_images(folder, given.images, max(64, given.images // 5)),
            f"student={given.student}",
            f"schedule.epochs={given.epochs}",
            f"device={given.device}",
        ]
        for method in given.methods:
            for side, store in (("without", "off"), ("with", f"{folder}/store")):
                own = [f"method={method}", f"run={folder / side / method}", *teacher_words(given.teacher, store)]
                settings = compose("distill", [*words, *own])
                seconds[side].append(timed(partial(start, settings, display=Display(silent=True))))
            without, with_ = seconds["without"][-1], seconds["with"][-1]
            print(f"{method:<6} without {without:7.1f} s  with {with_:7.1f} s  ratio {with_ / without:.2f}", flush=True)
    each = ratios(seconds["with"], seconds["without"])
    total = sum(seconds["with"]) / sum(seconds["without"])
    print(
        f"{len(given.methods)} methods, {given.teacher} → {given.student}, {given.epochs} epochs of {given.images:,}:"
    )
    print(f"  with ÷ without, all together {total:9.2f} ×")
    print(f"  the first, which fills it    {each[0]:9.2f} ×")
    if len(each) > 1:
        print(f"  each of the others           {spread(each[1:], '×')}, median {statistics.median(each[1:]):.2f}")
    result |= {"methods": given.methods, "seconds": seconds, "ratios": each, "together": total}
    write_results("method_sweep", result, given.results)


if __name__ == "__main__":
    main()
