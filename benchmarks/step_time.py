"""A training step: eager, replayed as a CUDA graph (step=graph), and plain training, in turn.

    python benchmarks/step_time.py --students resnet8x4 resnet20 --methods mcld kd plain --repeats 7

Made-up images in the shape of CIFAR-100 in batches of 64, the teacher's logits stored beforehand, whole epochs of a run
as mcld trains them (reading, augmentation, student, loss, backward pass, clipping, optimizer, meters). Prints
milliseconds a step, and each ÷ plain training with eager steps. Replayed steps need a CUDA device; elsewhere only eager
ones are timed.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from _harness import RESULTS, in_turn, ratios, spread, write_results
from _runs import BATCH, Training, made_up_images, teacher_words


def compare(student: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time all sides with one student."""
    images = made_up_images(folder, given.steps * BATCH)
    sides = {}
    for method in given.methods:
        for step in ("eager", "graph") if torch.cuda.is_available() else ("eager",):
            words = [*images, f"device={given.device}", f"step={step}", f"student={student}", f"method={method}"]
            run = Training("distill", [*words, *teacher_words("resnet20", f"{folder}/store")], folder / method / step)
            run.epoch()  # fills the store, and captures the step
            sides[f"{method} {step}"] = run.epoch
    seconds = in_turn(sides, given.repeats, run.device)
    per_step = {name: [value / given.steps for value in values] for name, values in seconds.items()}
    print(f"\n{student}, batch {BATCH}")
    base = per_step.get("plain eager", next(iter(per_step.values())))
    for name, values in per_step.items():
        print(f"  {name:<14} {spread(values, 'ms', 1e3)}   {statistics.median(ratios(values, base)):.3f} × the base")
    return {"seconds a step": per_step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", default=["resnet8x4", "resnet20"])
    parser.add_argument("--methods", nargs="+", default=["plain", "kd", "mcld"])
    parser.add_argument("--steps", type=int, default=50, help="in an epoch")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    result: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(given).items() if k != "results"}}
    for student in given.students:
        with tempfile.TemporaryDirectory() as folder:
            result[student] = compare(student, given, Path(folder))
    write_results("step-time", result, given.results)


if __name__ == "__main__":
    main()
