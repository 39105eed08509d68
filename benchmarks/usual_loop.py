"""Whole epochs of distillation by mcld, against the usual loop: a PIL loader, a live teacher, a fetch at every step.

    python benchmarks/usual_loop.py --images 640 --repeats 3

For each pair it trains whole epochs in turn on made-up images in the shape of CIFAR-100: the usual loop (``_runs.py``
holds it), mcld with every logit in the store ("warm"), and mcld where none of the epoch's views has been seen before
("cold", as in the first epoch of a first run: the teacher runs at every step and its logits are written to the store).
All three learn by KD at batch 64. Where a ratio misses its target, a profile of mcld's epoch says where its time goes.
"""

import argparse
import itertools
import statistics
import tempfile
from pathlib import Path
from typing import Any

from _harness import RESULTS, in_turn, ratios, spread, write_results
from _runs import Training, UsualLoop, judge, made_up_images, teacher_words, where_the_time_goes

PAIRS = {"resnet32x4/resnet8x4": 3.0, "ResNet50/MobileNetV2": 10.0}  # with the speed-up to reach
COLD = 1.0


def compare(pair: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time all sides for one TEACHER/STUDENT, and print what came out."""
    teacher, student = pair.split("/")
    words = [*made_up_images(folder, given.images), f"device={given.device}", f"student={student}", "method=kd"]
    ours = Training("distill", [*words, *teacher_words(teacher, f"{folder}/store")], folder)
    # Networks of its own, as PyTorch lays them out, and nothing of the other side's choices.
    theirs = Training("distill", [*words, *teacher_words(teacher, "off"), "channels_last=false"], folder)
    usual = UsualLoop(theirs.parts, theirs.device)
    ours.epoch()  # fills the store for the warm epochs
    numbers = itertools.count(1)
    sides = {"usual": usual.epoch, "warm": ours.epoch, "cold": lambda: ours.epoch(next(numbers))}
    seconds = in_turn(sides, given.repeats, ours.device, warm_up=0)
    warm, cold = (ratios(seconds["usual"], seconds[side]) for side in ("warm", "cold"))
    print(f"{teacher} → {student}, epochs of {given.images:,} images:")
    for what, times in seconds.items():
        print(f"  {what:<12} {spread(times, 's')}  {given.images / statistics.median(times):,.0f} images/s")
    print(f"  {'usual ÷ warm':<12} {spread(warm, '×')}\n  {'usual ÷ cold':<12} {spread(cold, '×')}")
    verdicts = {
        "warm": judge("  warm", statistics.median(warm), PAIRS.get(pair, COLD), at_most=False),
        "cold": judge("  cold", statistics.median(cold), COLD, at_most=False),
    }
    profiles = {side: where_the_time_goes(sides[side]) for side, verdict in verdicts.items() if not verdict["met"]}
    return {"seconds": seconds, "warm": warm, "cold": cold, "verdicts": verdicts, "profiles": profiles}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), metavar="TEACHER/STUDENT")
    parser.add_argument("--images", type=int, default=640, help="in an epoch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    result: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(given).items() if k != "results"}}
    for pair in given.pairs:
        with tempfile.TemporaryDirectory() as folder:
            result[pair] = compare(pair, given, Path(folder))
    write_results("usual_loop", result, given.results)


if __name__ == "__main__":
    main()
