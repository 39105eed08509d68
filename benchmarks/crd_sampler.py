"""What CRD's negatives cost: drawn for the batch at once, against one image after the other.

    python benchmarks/crd_sampler.py --images 50000 --batch 64 --negatives 16384 --repeats 9 --device cpu

Both sides do a whole training step of the method (forward, backward, banks) with the same features, in turns. The naive
one works as the original code does: numpy draws the negatives of each image on the CPU, without replacement; they go to
the device; their vectors are copied out of the banks and multiplied. In the original, worker processes of the loader do
the drawing, so it can overlap with the rest; "draw alone" says how much work that is for one of them. Prints medians
with the smallest and the largest, and the ratios; writes them to --results as a dated JSON.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from _harness import RESULTS, in_turn, ratios, spread, write_results
from mcld.methods import Outputs, Shapes, create_method
from mcld.methods.crd import CRD, contrast, draw_negatives


def draw_one_by_one(index: Tensor, images: int, count: int, rng: np.random.RandomState) -> Tensor:
    """The negatives of each image (B, count) by a loop, on the CPU, without replacement."""
    rows = []
    for i in index.tolist():
        others = rng.choice(images - 1, count, replace=count > images - 1)
        rows.append(others + (others >= i))
    return torch.from_numpy(np.stack(rows))


class Naive:
    """A training step of CRD as the original code does it."""

    def __init__(self, method: CRD, rng: np.random.RandomState) -> None:
        self.method, self.rng = method, rng
        self.log_constants: dict[str, Tensor] = {}

    def __call__(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        method = self.method
        assert method.student_map is not None
        assert method.teacher_map is not None
        method._move(student.device)
        negatives = draw_one_by_one(index, len(method.banks["student"]), method.negatives, self.rng)
        rows = torch.cat([index.unsqueeze(1), negatives.to(index.device)], dim=1)
        vectors = {
            "student": F.normalize(method.student_map(student), dim=1),
            "teacher": F.normalize(method.teacher_map(teacher), dim=1),
        }
        losses = []
        for role, other in (("student", "teacher"), ("teacher", "student")):
            chosen = method.banks[other].index_select(0, rows.flatten()).view(*rows.shape, -1)
            scores = (chosen @ vectors[role].unsqueeze(2)).squeeze(2) / method.temperature
            if role not in self.log_constants:
                self.log_constants[role] = scores.detach().logsumexp(dim=(0, 1)) - math.log(scores.numel())
            losses.append(contrast(scores, self.log_constants[role]))
        method._news = (index, {role: x.detach() for role, x in vectors.items()})
        method._learn()
        return method.weight * torch.stack(losses).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--negatives", type=int, default=16_384)
    parser.add_argument("--features", type=int, default=256, help="of both networks")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    device = torch.device(given.device)
    torch.manual_seed(0)
    rng = np.random.RandomState(0)  # the interface of the original code, which shuffles all candidates for each image
    index = torch.randperm(given.images)[: given.batch].to(device)
    labels = torch.zeros(given.batch, dtype=torch.int64, device=device)
    s, t = torch.randn(2, given.batch, given.features).to(device)
    s.requires_grad_()
    logits = torch.zeros(given.batch, 1, device=device)

    def make() -> CRD:
        method = create_method("crd", negatives=given.negatives)
        shapes = Shapes(1, given.features)
        method.prepare(shapes, shapes, given.images, 1)
        assert isinstance(method, CRD)
        return method.to(device)

    ours, theirs = make(), Naive(make(), rng)
    generator = torch.Generator(device)

    def step() -> None:
        terms = ours(Outputs(logits, s), Outputs(logits, t), labels, 1.0, index)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())

    actions: dict[str, dict[str, Callable[[], object]]] = {
        "draw alone": {
            "at once": lambda: draw_negatives(index, given.images, given.negatives, generator),
            "one by one": lambda: draw_one_by_one(index, given.images, given.negatives, rng),
        },
        "whole step": {"at once": step, "one by one": lambda: torch.autograd.backward(theirs(s, t, index))},
    }
    result: dict[str, object] = {"settings": {k: str(v) for k, v in vars(given).items() if k != "results"}}
    print(f"{given.batch} images of {given.images:,}, {given.negatives:,} negatives each, {device}")
    for name, sides in actions.items():
        seconds = in_turn(sides, given.repeats, device)
        ratio = ratios(seconds["one by one"], seconds["at once"])
        for side, times in seconds.items():
            print(f"{name:>10}, {side:<10}  {spread(times, 'ms', 1e3)}")
        print(f"{name:>10}, ratio       {spread(ratio, '×')}")
        result[name] = {**seconds, "ratios": ratio}
    write_results(f"crd-sampler-{device.type}", result, given.results)


if __name__ == "__main__":
    main()
