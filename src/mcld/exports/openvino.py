"""``openvino``: OpenVINO's own format, for Intel's processors."""

import importlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcld.exports._base import Export, Job, Runner, cannot
from mcld.exports._packaged import metadata, quiet
from mcld.exports.onnx import write_onnx
from mcld.registry import register_export

PRECISE = {"INFERENCE_PRECISION_HINT": "f32"}


@register_export("openvino")
class OpenVINO(Export):
    """OpenVINO's two files, from raw images to logits and probabilities."""

    files = ("model.xml", "model.bin")
    needs = ("openvino", "onnx", "onnxscript")
    extra = "mcld[openvino]"
    normalizes = True

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Export.write`."""
        openvino: Any = importlib.import_module("openvino")
        with tempfile.TemporaryDirectory() as place:
            between = Path(place) / "model.onnx"
            write_onnx(job, between, self.name)
            try:
                with quiet():
                    model = openvino.convert_model(between)
            except Exception as error:  # of an operator that it does not know
                raise cannot(job, self.name, error) from error
        for key, value in metadata(job).items():
            model.set_rt_info(value, ["mcld", key])
        openvino.save_model(model, folder / self.files[0], compress_to_fp16=False)
        return [
            f'there: openvino.Core().compile_model("{self.files[0]}", "CPU", {PRECISE})(images)["probabilities"]; '
            "without that setting some processors compute with 16 bits, faster and less exactly"
        ]

    def inputs(self, job: Job, images: Tensor) -> Any:
        """See :meth:`Export.inputs`."""
        return job.inputs(images).numpy()

    def open(self, job: Job, folder: Path, threads: int) -> Runner:  # noqa: ARG002 (it is in the file)
        """See :meth:`Export.open`."""
        openvino: Any = importlib.import_module("openvino")
        wanted = {**PRECISE, "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(folder / self.files[0], "CPU", wanted)

        def run(inputs: Any) -> tuple[Tensor, Tensor]:
            found = compiled(inputs)
            return torch.from_numpy(found["logits"].copy()), torch.from_numpy(found["probabilities"].copy())

        return run
