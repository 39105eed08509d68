"""Which ways to compute are fastest on this device: what ``mcld.assembly.choices`` rests on.

    python benchmarks/choices.py --repeats 5

A training step (cross-entropy, SGD with momentum, batch 64 in the shape of CIFAR) is timed as PyTorch does it by
default and with one thing changed at a time: channels last, a fused and a foreach optimizer, torch.compile (the seconds
of its first step are given apart), and lower precision, in turns. So are the logits of a frozen network: channels last,
batch normalisation folded into the convolutions, both. Prints how many times as fast as the default each is.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from _harness import RESULTS, in_turn, ratios, spread, write_results
from _runs import BATCH, CLASSES, SIZE
from mcld.models.folding import fold
from mcld.models.network import ModelSpec, Network


def network(name: str, device: torch.device) -> Network:
    """A fresh one, the same each time."""
    torch.manual_seed(0)
    spec = ModelSpec(name, CLASSES, 3, mean=[0.5] * 3, std=[0.25] * 3, image_size=[SIZE, SIZE])
    return spec.build().to(device)


def step(name: str, device: torch.device, precision: torch.dtype, **choices: Any) -> Callable[[], None]:
    """A training step of one network, computed as chosen."""
    layout = torch.channels_last if choices.get("channels_last") else torch.contiguous_format
    student: nn.Module = network(name, device).to(memory_format=layout).train()
    given = {key: True for key in ("fused", "foreach") if choices.get(key)}
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, **given)
    if choices.get("compile"):
        student.compile()
    images = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8, device=device)
    labels = torch.arange(BATCH, device=device) % CLASSES

    def run() -> None:
        with torch.autocast(device.type, precision, enabled=precision is not torch.float32):
            loss = F.cross_entropy(student(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    return run


def logits(name: str, device: torch.device, *, channels_last: bool = False, folded: bool = False) -> Callable[[], None]:
    """The logits of one batch from a frozen network."""
    teacher: nn.Module = network(name, device).eval()
    teacher = fold(teacher) if folded else teacher
    teacher = teacher.to(memory_format=torch.channels_last) if channels_last else teacher
    images = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8, device=device)

    def run() -> None:
        with torch.inference_mode():
            teacher(images)

    return run


def compare(what: str, sides: dict[str, Callable[[], None]], repeats: int, device: torch.device) -> dict[str, Any]:
    """Time the sides in turn, the first being the default, and print how many times as fast the others are."""
    seconds = in_turn(sides, repeats, device)
    default = next(iter(sides))
    print(f"{what}: {default} {spread(seconds[default], 'ms', 1e3)}")
    times_as_fast = {side: ratios(seconds[default], seconds[side]) for side in sides if side != default}
    for side, found in times_as_fast.items():
        print(f"  {side:<28} {spread(found, '× as fast')}", flush=True)
    return {"seconds": seconds, "times as fast": times_as_fast}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet8", "resnet20", "resnet8x4", "MobileNetV2"])
    parser.add_argument("--teachers", nargs="+", default=["resnet32x4", "vgg13", "wrn_40_2"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--slow-repeats", type=int, default=1, help="of low precision, which can be very slow")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    device = torch.device(given.device)
    result: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(given).items() if k != "results"}}
    full, half = torch.float32, torch.bfloat16
    for name in given.networks:
        sides = {
            "default": step(name, device, full),
            "channels last": step(name, device, full, channels_last=True),
            "foreach": step(name, device, full, foreach=True),
            "fused": step(name, device, full, fused=True),
            "channels last, fused": step(name, device, full, channels_last=True, fused=True),
        }
        result[name] = {}
        if not given.no_compile:
            everything = step(name, device, full, channels_last=True, fused=True, compile=True)
            start = time.perf_counter()
            everything()
            result[name]["seconds to compile"] = time.perf_counter() - start
            print(f"{name}: {result[name]['seconds to compile']:.0f} s to compile")
            sides["channels last, fused, compiled"] = everything
        result[name]["step"] = compare(f"{name}, a training step", sides, given.repeats, device)
        slow = {"default": sides["default"], "bf16": step(name, device, half)}
        result[name]["precision"] = compare(f"{name}, a training step", slow, given.slow_repeats, device)
    for name in given.teachers:
        kinds = {"default": {}, "channels last": {"channels_last": True}, "folded": {"folded": True}}
        frozen = {kind: logits(name, device, **choices) for kind, choices in kinds.items()}
        frozen["folded, channels last"] = logits(name, device, channels_last=True, folded=True)
        result[f"{name} (logits)"] = compare(f"{name}, logits of a batch", frozen, given.repeats, device)
    write_results(f"choices-{device.type}", result, given.results)


if __name__ == "__main__":
    main()
