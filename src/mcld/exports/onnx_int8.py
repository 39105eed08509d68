"""``onnx-int8``: an ONNX file whose layers compute with 8-bit integers, calibrated on training images."""

import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcld.errors import InputError
from mcld.exports._base import Job, Runner, cannot
from mcld.exports._packaged import quiet
from mcld.exports.onnx import Onnx, add_metadata, open_onnx, use_line, write_onnx
from mcld.registry import register_export

CALIBRATION = 256
"""Training images that the ranges of the activations are measured on."""
JUDGED = 512
"""Other training images that say whether layers have to stay in float."""
GOOD = 0.99
"""Share of them with the same class as in float that is good enough."""
GAIN = 0.005
"""What leaving layers in float has to gain where it does not reach that."""
CLEAN = 60.0
"""Signal to noise, in decibels, of what has not been quantised yet."""
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_BETWEEN = ("Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")


@register_export("onnx-int8")
class OnnxInt8(Onnx):
    """The same in 8-bit integers: a quarter of the size and faster, with a small loss that is told."""

    files = ("model.int8.onnx",)
    exact = False

    def check(self, job: Job) -> None:
        """See :meth:`Export.check`."""
        if job.calibration is None:
            raise InputError(
                f"format onnx-int8 is calibrated on the run's training images, which are not at hand: {job.missing}"
            )

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Export.write`."""
        file = folder / self.files[0]
        with tempfile.TemporaryDirectory() as place:
            whole = Path(place) / "float.onnx"
            write_onnx(job, whole, self.name)
            try:
                with quiet():
                    lines = _quantize(job, whole, file, Path(place))
            except Exception as error:  # the quantiser fails in any way it likes on a graph that it does not know
                raise cannot(job, self.name, error) from error
        add_metadata(job, file)
        return [*lines, use_line(file)]


def _quantize(job: Job, whole: Path, file: Path, place: Path) -> list[str]:
    """Write the quantised file: with all layers in integers, or else with the fewest tried in float that mend it."""
    onnx: Any = importlib.import_module("onnx")
    tools: Any = importlib.import_module("onnxruntime.quantization")
    prepared = place / "prepared.onnx"
    tools.quant_pre_process(whole, prepared, skip_symbolic_shape=True)
    assert job.calibration is not None
    seen = job.inputs(job.calibration(CALIBRATION, 0)).numpy()
    judged = job.inputs(job.calibration(JUDGED, 1)).numpy()
    graph = onnx.load(prepared).graph
    constants = {constant.name for constant in graph.initializer}
    products = [node for node in graph.node if node.op_type in _PRODUCTS and node.input[1] in constants]
    names = [node.name for node in products]
    # A transformer's additions and normalisations carry outliers: there only the matrix products are quantised.
    attends = sum(node.op_type == "Softmax" for node in graph.node) > 1
    kinds = _PRODUCTS if attends or _has(graph, "LayerNormalization") else _PRODUCTS + _BETWEEN

    def quantize(left: Sequence[str], out: Path) -> None:
        tools.quantize_static(
            prepared,
            out,
            _reader(seen),
            quant_format=tools.QuantFormat.QDQ,
            op_types_to_quantize=list(kinds),
            nodes_to_exclude=list(left),
            per_channel=True,
            reduce_range=True,  # CPUs without VNNI saturate on 8 × 8 bits, and the file may go to one
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            calibrate_method=tools.CalibrationMethod.MinMax,
            extra_options={
                "MatMulConstBOnly": True
            },  # attention's products of two activations lose most and gain least
        )

    threads = torch.get_num_threads()
    reference = _classes(open_onnx(prepared, threads), judged)

    def agreement(out: Path) -> float:
        return (_classes(open_onnx(out, threads), judged) == reference).float().mean().item()

    quantize([], file)
    first = best = agreement(file)
    left: list[str] = []
    if first < GOOD and len(names) > 1:
        trial = place / "trial.onnx"
        for candidate in _candidates(names, _worst(prepared, file, seen[:32], products, place)):
            quantize(candidate, trial)
            found = agreement(trial)
            if found >= min(best + GAIN, GOOD):
                best, left = found, candidate
                file.write_bytes(trial.read_bytes())
            if best >= GOOD:
                break
    lines = [
        f"{len(names) - len(left)} of {len(names)} layers in integers (weights of 7 bits, which every CPU computes "
        f"right), calibrated on {len(seen)} training images"
    ]
    images = f"of {len(judged)} other training images get the same class as in float"
    if left:
        shown = ", ".join(left[:6]) + (f" and {len(left) - 6} more" if len(left) > 6 else "")
        lines.append(f"left in float: {shown}; with that {best:.1%} instead of {first:.1%} {images}")
    if best < GOOD:
        lines.append(f"warning: {best:.1%} {images}, and no more layers in float mended that")
    return lines


def _candidates(names: Sequence[str], worst: Sequence[str]) -> list[list[str]]:
    """Layers to leave in float: the first and the last, then more and more of those that lose most."""
    ends = [names[0], names[-1]]
    found = [ends]
    for share in (8, 4, 2):
        more = [*ends, *(name for name in worst[: max(1, len(names) // share)] if name not in ends)]
        if more not in found and len(more) < len(names):
            found.append(more)
    return found


def _worst(whole: Path, quantized: Path, seen: Any, products: Sequence[Any], place: Path) -> list[str]:
    """The layers, those first that add most noise: whose output is so much noisier than their input."""
    debug: Any = importlib.import_module("onnxruntime.quantization.qdq_loss_debug")
    found = []
    for number, model in enumerate((whole, quantized)):
        wider = place / f"wider{number}.onnx"
        debug.modify_model_output_intermediate_tensors(str(model), str(wider))
        found.append(debug.collect_activations(str(wider), _reader(seen)))
    matched = debug.create_activation_matching(found[1], found[0])
    errors = debug.compute_activation_error(matched)  # signal to noise so far, in decibels: the higher the better

    def lost(node: Any) -> float:
        before, after = (errors.get(name, {}).get("xmodel_err", CLEAN) for name in (node.input[0], node.output[0]))
        return float(min(before, CLEAN) - min(after, CLEAN))

    return [node.name for node in sorted(products, key=lost, reverse=True)]


def _reader(images: Any) -> Any:
    """The images, as the quantiser asks for them."""
    tools: Any = importlib.import_module("onnxruntime.quantization")

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.left = iter([{"images": images[start : start + 32]} for start in range(0, len(images), 32)])

        def get_next(self) -> Any:
            return next(self.left, None)

    return Reader()


def _classes(run: Runner, images: Any) -> Tensor:
    return torch.cat([run(images[start : start + 64])[0].argmax(dim=1) for start in range(0, len(images), 64)])


def _has(graph: Any, kind: str) -> bool:
    return any(node.op_type == kind for node in graph.node)
