"""What a loss costs: time and peak memory of losses with their backward pass, from small batches to many classes.

    python benchmarks/loss_scale.py                       # everything: about ten minutes on two cores, 8 GB of memory
    python benchmarks/loss_scale.py --sizes 64x100        # one size, batch by classes
    python benchmarks/loss_scale.py --switch              # where whole matrices and blocks take equally long

The sides take turns: MCLD in the form of its kernel that it chooses by itself, in plain operations of PyTorch on whole
matrices of products, and in blocks; the category-wise term alone in these two forms; KD, DKD, DIST, and a step of CRD
(with 16,384 negatives for each image of 50,000, on features of 128). Peak memory is of one call in a fresh process,
above logits, labels and what the method holds, the gradient of the logits included. Prints medians with the smallest
and the largest, and the targets that we set ourselves; writes a dated JSON and a picture to --results.
"""

import argparse
import functools
import gc
import math
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _harness import RESULTS, in_fresh_process, in_turn, peak_memory, ratios, spread, write_results
from mcld.contrast import Contrast, Relation, contrast, force_form
from mcld.methods import Method, Outputs, Shapes, create_method
from mcld.methods.mcld import MCLD

SIZES = ("64x100", "256x1000", "1024x1000", "4096x1000", "1024x21841")
BANK = "bank 100,000"
CATEGORY: dict[str, Any] = {"instance": {"weight": 0}, "sample": {"weight": 0}}
# name → method, options, form of the kernel
SIDES: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "MCLD": ("mcld", {}, None),
    "MCLD plain": ("mcld", {}, "plain"),
    "MCLD blocked": ("mcld", {}, "blocked"),
    "category plain": ("mcld", CATEGORY, "plain"),
    "category blocked": ("mcld", CATEGORY, "blocked"),
    "KD": ("kd", {}, None),
    "DKD": ("dkd", {}, None),
    "DIST": ("dist", {}, None),
    "CRD": ("crd", {}, None),
    BANK: ("mcld", {}, None),
}
IMAGES, FEATURES = 50_000, 128


def make_step(side: str, size: str, device: torch.device) -> Callable[[], None]:
    """Forward and backward of one side on fixed random logits of a size."""
    B, C = map(int, size.split("x"))
    name, options, form = SIDES[side]
    g = torch.Generator().manual_seed(0)
    width = FEATURES if name == "crd" else C
    s, t = (torch.randn(B, width, generator=g).to(device) for _ in range(2))
    s.requires_grad_()
    labels = torch.randint(C, (B,), generator=g).to(device)
    index = torch.randperm(IMAGES, generator=g)[:B].to(device)
    method: Method = create_method(name, **options)
    method.epochs = 240
    method.check_values = False  # as in training, where the loop looks at the losses itself
    outputs: tuple[Outputs, Outputs] = (Outputs(s), Outputs(t))
    if name == "crd":
        shapes = Shapes(C, FEATURES)
        method.prepare(shapes, shapes, IMAGES, 1)
        logits = torch.zeros(B, 1, device=device)
        outputs = (Outputs(logits, s), Outputs(logits, t))
    method.to(device)
    if side == BANK:
        assert isinstance(method, MCLD)
        rows = 100_000
        stored = torch.randn(rows, C, generator=g).to(device)
        method.fill_bank(stored, torch.randint(C, (rows,), generator=g).to(device), torch.arange(rows, device=device))
        method.bank.unit_rows(method.center)

    def step() -> None:
        s.grad = None
        with nullcontext() if form is None else force_form(form):
            terms: list[Tensor] = list(method(*outputs, labels, 1.0, index).values())
            torch.autograd.backward(torch.stack(terms).sum() if len(terms) > 1 else terms[0])

    return step


def measure_memory(side: str, size: str, device: torch.device) -> int:
    """Peak bytes above the inputs, in this process; a small call comes first and loads what calls load once."""
    make_step(side if side != BANK else "MCLD blocked", "16x16", device)()
    step = make_step(side, size, device)
    gc.collect()
    return peak_memory(step, device)


def own_memory(side: str, size: str, device: torch.device) -> int:
    """The same in a process of its own, but on a device that counts its memory itself."""
    if device.type == "cuda":
        return measure_memory(side, size, device)
    found: int = in_fresh_process("--memory", side, size, "--device", str(device))
    return found


def measure_size(size: str, sides: list[str], repeats: int, device: torch.device) -> dict[str, Any]:
    """Seconds and peak bytes of each side at one size."""
    B, C = map(int, size.split("x"))
    work = max(B * B * C, C * C * B)
    calls = 20 if work < 1e8 else 1
    memory = {side: own_memory(side, size, device) for side in sides}
    steps = {side: make_step(side, size, device) for side in sides}
    if work > 1e10:  # seconds to minutes each
        repeats = 1 if work > 1e11 else min(repeats, 3)
    seconds = in_turn(steps, repeats, device, calls=calls, warm_up=0 if work > 1e11 else 1)
    print(f"\n{B:,} images, {C:,} classes, figures: {repeats}")
    for side in sides:
        print(f"{side:>17}  {spread(seconds[side], 'ms', 1e3):<45} {memory[side] / 2**20:10,.1f} MiB", flush=True)
    return {"seconds": seconds, "peak_bytes": memory}


def check_targets(results: dict[str, dict[str, Any]], training_step_ms: float) -> list[dict[str, Any]]:
    """What we set ourselves, as far as it has been measured: the figure, the bound and whether it is met."""
    found: list[tuple[str, float, float, str]] = []

    def ratio(size: str, side: str, base: str) -> float:
        seconds = results[size]["seconds"]
        return statistics.median(ratios(seconds[side], seconds[base]))

    if "64x100" in results:
        ms = statistics.median(results["64x100"]["seconds"]["MCLD"]) * 1e3
        found.append(("three perspectives at 64x100 ÷ DKD", ratio("64x100", "MCLD", "DKD"), 1.5, "×"))
        found.append((f"the same ÷ a training step of {training_step_ms:g} ms", 100 * ms / training_step_ms, 0.5, "%"))
    if "1024x21841" in results:
        large = results["1024x21841"]
        mb = large["peak_bytes"]["category blocked"] / 1e6
        found.append(("category-wise at 1024x21841, peak memory", mb, 500, "MB"))
        found.append(("the same ÷ plain, time", ratio("1024x21841", "category blocked", "category plain"), 1.0, "×"))
    for size in results:
        if "MCLD" in results[size]["seconds"] and "MCLD plain" in results[size]["seconds"]:
            other, faster = sorted(ratio(size, "MCLD", side) for side in ("MCLD plain", "MCLD blocked"))
            what = f"own choice of form at {size} ÷ the faster of plain and blocked (÷ the other: {other:.2f})"
            found.append((what, faster, 1.1, "×"))
    print()
    for what, value, bound, unit in found:
        verdict = "met" if value <= bound else f"MISSED by {100 * (value / bound - 1):.0f}%"
        print(f"{what}: {value:.3g} {unit}, target at most {bound:g} {unit}: {verdict}")
    return [{"what": w, "value": v, "bound": b, "unit": u, "met": v <= b} for w, v, b, u in found]


def find_switch(repeats: int, device: torch.device) -> dict[str, Any]:
    """The kernel on ever larger matrices of products, whole and in blocks; prints the ratio of their times."""
    found: dict[str, Any] = {}
    terms = [Contrast(0.1, "own", target_mask=True), Contrast(0.1, "labels")]
    for n, N, d in (
        *((n, n, 1000) for n in (256, 512, 1024, 2048, 4096)),
        *((256, N, 1000) for N in (4096, 16384, 65536)),
        *((n, n, 256) for n in (1000, 2000, 4000)),
    ):
        g = torch.Generator().manual_seed(0)
        a, z = (torch.nn.functional.normalize(torch.randn(k, d, generator=g)).to(device) for k in (n, N))
        a.requires_grad_()
        labels = torch.randint(d, (N,), generator=g).to(device)
        relation = Relation((labels[:n], labels))

        def run(form: str, a: Tensor, z: Tensor, relation: Relation) -> None:
            with force_form(form):
                torch.autograd.backward(torch.stack(contrast(a, [z], relation, terms)).sum())

        forms = {form: functools.partial(run, form, a, z, relation) for form in ("full", "blocked")}
        seconds = in_turn(forms, repeats, device)
        ratio = ratios(seconds["blocked"], seconds["full"])
        print(f"{n:>6} × {N:<6} d {d:<5} 2^{math.log2(n * N):4.1f}  blocked ÷ whole {spread(ratio, '×')}", flush=True)
        found[f"{n}x{N}x{d}"] = seconds
    return found


def draw(results: dict[str, dict[str, Any]], file: Path) -> None:
    """Time and memory over the sizes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sizes = [size for size in SIZES if size in results]
    figure, panels = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    shown = [side for side in SIDES if side != BANK and any(side in results[size]["seconds"] for size in sizes)]
    colors = dict(zip(shown, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    for panel, title in zip(panels, ("forward + backward, ms", "peak memory above the inputs, MiB"), strict=True):
        for side in shown:
            places = [k for k, size in enumerate(sizes) if side in results[size]["seconds"]]
            if title.startswith("peak"):
                values = [max(results[sizes[k]]["peak_bytes"][side] / 2**20, 0.1) for k in places]
            else:
                values = [statistics.median(results[sizes[k]]["seconds"][side]) * 1e3 for k in places]
            dashed = "--" if side.endswith("plain") else "-"
            panel.plot(places, values, dashed, marker="o", markersize=4, color=colors[side], label=side)
        panel.set_yscale("log")
        panel.set_title(title)
        panel.set_xticks(range(len(sizes)), [size.replace("x", " × ") for size in sizes], fontsize=8)
        panel.set_xlabel("images × classes")
        panel.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(file, dpi=110)
    print(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), metavar="BxC")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--training-step", type=float, default=700.0, metavar="MS", help="of resnet8x4, for the share")
    parser.add_argument("--switch", action="store_true", help="compare whole matrices with blocks only")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--memory", nargs=2, metavar=("SIDE", "BxC"), help="print the peak bytes of one call")
    given = parser.parse_args()
    device = torch.device(given.device)
    if given.memory:
        side, size = given.memory
        print(measure_memory(side, size, device))
        return
    if given.switch:
        write_results(f"loss-switch-{device.type}", find_switch(given.repeats, device), given.results)
        return
    results: dict[str, dict[str, Any]] = {}
    for size in given.sizes:
        results[size] = measure_size(size, [side for side in SIDES if side != BANK], given.repeats, device)
    if given.sizes == list(SIZES):
        results["256x1000, bank of 100,000"] = measure_size("256x1000", [BANK], given.repeats, device)
    targets = check_targets(results, given.training_step)
    stem = write_results(f"loss-scale-{device.type}", {"sizes": results, "targets": targets}, given.results)
    draw(results, stem.with_suffix(".png"))


if __name__ == "__main__":
    main()
