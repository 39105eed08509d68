"""What a step costs with ``mcld.Distiller``, against the same step written by hand as our loop did before it.

    python benchmarks/distiller.py

For each pair of a student and a method, the teacher's logits given: forward and backward pass in turn, of the code that
``training/objective.py`` held and of the Distiller, on the same networks and images. The time is the CPU's, with one
thread: on a machine that does other things, too, that of the clock says little.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _harness import CLOCKS, RESULTS, in_turn, ratios, spread, write_results
from _runs import judge
from mcld import Distiller, Outputs, create_model
from mcld.distributed import gather_rows
from mcld.methods import Method, create_method

CLASSES, BATCH, TARGET = 100, 64, 1.02


def by_hand(student: nn.Module, method: Method, images: Tensor, labels: Tensor, teacher: Outputs) -> Tensor:
    """The loss of a step, as the loop computed it before there was a Distiller."""
    outputs = Outputs(student(images))
    terms = {"ce": method.ce_weight * F.cross_entropy(outputs.logits, labels, label_smoothing=0.0)}
    index = torch.arange(len(labels))
    if method.requires_global_batch:
        outputs, teacher = Outputs(gather_rows(outputs.logits)), Outputs(gather_rows(teacher.logits))
        labels, index = gather_rows(labels), gather_rows(index)
    terms.update(method(outputs, teacher, labels, 0.5, index))
    return torch.stack(list(terms.values())).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", default=["linear", "resnet8", "resnet8x4"])
    parser.add_argument("--methods", nargs="+", default=["kd", "mcld"])
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--clock", choices=list(CLOCKS), default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(given).items() if k != "results"}}
    images, labels = torch.rand(BATCH, 3, 32, 32), torch.randint(CLASSES, (BATCH,))
    for name in given.students:
        for kind in given.methods:
            torch.manual_seed(0)
            # A linear student has next to no cost of its own: what is left is the Distiller's.
            linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, CLASSES))
            student = linear if name == "linear" else create_model(name, CLASSES)
            teacher = Outputs(torch.randn(BATCH, CLASSES))
            method = create_method(kind)
            method.check_values = False
            distiller = Distiller(student, method=create_method(kind), check_values=False)
            index = torch.arange(BATCH)

            def hand(student: nn.Module = student, method: Method = method, teacher: Outputs = teacher) -> None:
                torch.autograd.backward(by_hand(student, method, images, labels, teacher))

            def ours(distiller: Distiller = distiller, teacher: Outputs = teacher, index: Tensor = index) -> None:
                out = distiller(images, labels, progress=0.5, index=index, teacher_logits=teacher)
                torch.autograd.backward(out.loss)

            sides: dict[str, Callable[[], object]] = {"by hand": hand, "Distiller": ours}
            seconds = in_turn(sides, given.repeats, calls=100 if name == "linear" else 3, clock=given.clock)
            found = ratios(seconds["Distiller"], seconds["by hand"])
            print(f"{name}, {kind}, {BATCH} images:")
            for what, times in seconds.items():
                print(f"  {what:<15} {spread(times, 'ms', 1000)}")
            print(f"  {'ratio':<15} {spread(found, '×')}")
            more = statistics.median(a - b for a, b in zip(seconds["Distiller"], seconds["by hand"], strict=True))
            print(f"  {'more':<15} {1e6 * more:9.1f} µs")
            verdict = judge(f"  {name}, {kind}", statistics.median(found), TARGET, at_most=True)
            result[f"{name}, {kind}"] = {"seconds": seconds, "ratios": found, "more": more, "verdict": verdict}
    write_results("distiller", result, given.results)


if __name__ == "__main__":
    main()
