"""What distilling costs beyond plain training of the same student, once the teacher's logits are stored.

    python benchmarks/distil_vs_plain.py --images 1280 --seconds 120

For each student it trains whole epochs, plain and from a full store in turn, on made-up images in the shape of
CIFAR-100; the run is prepared as the command line prepares it. Both epochs show the same images in the same views.
Where the ratio misses its target, a profile of both epochs says where the time goes.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from _harness import CLOCKS, RESULTS, in_turn, ratios, spread, write_results
from _runs import Training, judge, made_up_images, teacher_words, where_the_time_goes

TARGET = 1.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet32x4")
    parser.add_argument("--students", nargs="+", default=["resnet8x4", "MobileNetV2"])
    parser.add_argument("--method", default="mcld")
    parser.add_argument("--images", type=int, default=1280, help="in an epoch")
    parser.add_argument("--repeats", type=int, default=5, help="at the least")
    parser.add_argument("--seconds", type=float, default=120.0, help="of timed epochs for each student, at the least")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: for a CPU that others use, too")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    result: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(given).items() if k != "results"}}
    for student in given.students:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            words = [*made_up_images(folder, given.images), f"device={given.device}"]
            plain = Training("train", [*words, f"model={student}"], folder)
            distil = [f"student={student}", f"method={given.method}", *teacher_words(given.teacher, f"{folder}/store")]
            stored = Training("distill", [*words, *distil], folder)
            stored.epoch()  # fills the store
            assert stored.loop.teacher is not None
            computed = stored.loop.teacher.computed  # type: ignore[attr-defined]
            sides = {"plain": plain.epoch, "from the store": stored.epoch}
            once = sum(times[0] for times in in_turn(sides, 1, plain.device).values())
            seconds = in_turn(sides, max(given.repeats, round(given.seconds / once)), plain.device, clock=given.clock)
            assert stored.loop.teacher.computed == computed, "the store was not full"  # type: ignore[attr-defined]
            found = ratios(seconds["from the store"], seconds["plain"])
            print(f"{student}, {given.method} from {given.teacher}, epochs of {given.images:,} images:")
            for what, times in seconds.items():
                print(f"  {what:<15} {spread(times, 's')}")
            print(f"  {'ratio':<15} {spread(found, '×')}")
            verdict = judge(f"  {student}", statistics.median(found), TARGET, at_most=True)
            result[student] = {"seconds": seconds, "ratios": found, "verdict": verdict}
            if not verdict["met"]:
                result[student]["profiles"] = {name: where_the_time_goes(epoch) for name, epoch in sides.items()}
    write_results("distil_vs_plain", result, given.results)


if __name__ == "__main__":
    main()
