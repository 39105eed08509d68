"""What storing the teacher's logits in 16 bits does to the losses: what ``teacher.store_precision`` offers to choose.

    python benchmarks/store_precision.py data=arrays data.train=train.npz data.val=val.npz teacher=runs/t student=runs/s

The teacher's logits of training batches (the views of a run's first epochs) are rounded to 16 bits as the store rounds
them. Each method's distillation loss, and its gradient with respect to the student's logits, are computed with both.
The differences are relative: |loss16 − loss32| / |loss32|, and ‖gradient16 − gradient32‖ / ‖gradient32‖ of a batch.
Students are the one given, and the same architecture with its first weights; MCLD also with a bank of all training
images. The dated result is of two epochs of mcld train on 20 classes of Tiny-ImageNet at 32 px (teacher resnet20,
student resnet8 with seed=1). Prints medians and the largest over the batches; writes them to --results as a dated JSON.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _harness import RESULTS, write_results
from mcld.assembly.parts import build_parts
from mcld.configs.compose import compose
from mcld.configs.schema import Distill
from mcld.data import TrainLoader
from mcld.methods import Method, create_method
from mcld.models.network import Network
from mcld.teacher import LiveTeacher, plain_logits

# Of two logit matrices; those that read a second view or keep a state of their own are left out.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "mcld": ("mcld", {}),
    "mcld, soft": ("mcld", {name: {"targets": "soft"} for name in ("instance", "sample", "category")}),
    "mcld, bank of all": ("mcld", {"bank": -1}),
    "ckd": ("ckd", {}),
    **{name: (name, {}) for name in ("kd", "dkd", "dist", "nkd", "wsld", "ttm", "mse")},
    "kd, standardized": ("kd", {"standardize": True}),
}


def loss_and_gradient(method: Method, student: Tensor, teacher: Tensor, labels: Tensor, index: Tensor) -> list[Tensor]:
    """The distillation loss of a batch, and its gradient (B, C) with respect to the student's logits."""
    logits = student.clone().requires_grad_()
    loss = torch.stack(list(method(logits, teacher, labels, 1.0, index).values())).sum()
    return [loss.detach(), torch.autograd.grad(loss, logits)[0]]


def relative(rounded: Tensor, exact: Tensor) -> float:
    """‖rounded − exact‖ / ‖exact‖."""
    return float((rounded - exact).norm() / exact.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", metavar="key=value", help="settings of mcld distill")
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    settings = compose("distill", given.words)
    assert isinstance(settings, Distill)
    parts = build_parts(settings)
    assert parts.teacher is not None
    train, live = parts.data.train, LiveTeacher(parts.teacher)
    torch.manual_seed(0)
    students: dict[str, Network] = {"trained": parts.student, "first weights": parts.student.spec.build()}
    everything, plain = plain_logits(live, train, torch.device("cpu"))

    errors: list[Tensor] = []
    found: dict[str, dict[str, list[float]]] = {}
    loader = TrainLoader(train, settings.data.batch_size, seed=0, workers=settings.data.workers)
    batches = (batch for epoch in range(given.batches) for batch in loader.epoch(epoch))
    for _, batch in zip(range(given.batches), batches, strict=False):
        exact = live(batch).logits
        rounded = exact.half().float()
        errors.append((rounded - exact).abs().max())
        for state, network in students.items():
            with torch.no_grad():
                answers = network.train()(batch.image).clone()
            for title, (name, options) in METHODS.items():
                pair = []
                for logits, bank in ((exact, plain), (rounded, plain.half().float())):
                    method = create_method(name, **options)
                    method.epochs = 240
                    if method.training_bank:
                        method.fill_bank(bank, train.labels, everything)
                    pair.append(loss_and_gradient(method, answers, logits, batch.label, batch.index))
                (loss, gradient), (loss16, gradient16) = pair
                entry = found.setdefault(f"{title}; student: {state}", {"loss": [], "gradient": []})
                entry["loss"].append(relative(loss16, loss))
                entry["gradient"].append(relative(gradient16, gradient))

    largest = float(torch.stack(errors).max())
    print(f"teacher's logits from {plain.min():.2f} to {plain.max():.2f}; largest error of one logit {largest:.2e}")
    print(f"{'relative difference: median (largest)':<44}  {'loss':>22}  {'gradient':>22}")
    summary = {
        title: {
            what: {"median": statistics.median(values), "smallest": min(values), "largest": max(values)}
            for what, values in entry.items()
        }
        for title, entry in found.items()
    }
    for title, sides in summary.items():
        shown = [f"{side['median']:.1e} ({side['largest']:.1e})" for side in sides.values()]
        print(f"{title:<44}  {shown[0]:>22}  {shown[1]:>22}")
    worst = {what: max(entry[what]["largest"] for entry in summary.values()) for what in ("loss", "gradient")}
    print(f"largest of all: loss {worst['loss']:.1e}, gradient {worst['gradient']:.1e}")
    result = {
        "settings": {"words": [word for word in given.words if "/" not in word], "batches": given.batches},
        "teacher": parts.teacher.spec.architecture,
        "student": parts.student.spec.architecture,
        "images": len(train),
        "batch": settings.data.batch_size,
        "logits": {"lowest": float(plain.min()), "highest": float(plain.max()), "largest error": largest},
        "relative differences": summary,
        "largest": worst,
    }
    write_results("store-precision", result, given.results)


if __name__ == "__main__":
    main()
