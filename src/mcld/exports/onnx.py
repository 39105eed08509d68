"""``onnx``: one file that ONNX Runtime and many others run, without PyTorch."""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcld.exports._base import Export, Job, Runner, cannot
from mcld.exports._packaged import Packaged, example, metadata, quiet
from mcld.registry import register_export


@register_export("onnx")
class Onnx(Export):
    """One ONNX file for batches of any size, from raw images to logits and probabilities."""

    files = ("model.onnx",)
    needs = ("onnx", "onnxscript", "onnxruntime")
    extra = "mcld[export]"
    normalizes = True
    use = True

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Export.write`."""
        file = folder / self.files[0]
        write_onnx(job, file, self.name)
        return [use_line(file)]

    def inputs(self, job: Job, images: Tensor) -> Any:
        """See :meth:`Export.inputs`."""
        return job.inputs(images).numpy()

    def open(self, job: Job, folder: Path, threads: int) -> Runner:  # noqa: ARG002 (it is in the file)
        """See :meth:`Export.open`."""
        return open_onnx(folder / self.files[0], threads)


def use_line(file: Path) -> str:
    """How to use an ONNX file."""
    return f"there: python use.py {file.name} PHOTO (onnxruntime, numpy and Pillow are enough)"


def write_onnx(job: Job, file: Path, form: str) -> None:
    """Write a network as one ONNX file with its metadata.

    Raises:
        InputError: when the exporter cannot, saying why.
    """
    try:
        with quiet():
            program = torch.onnx.export(
                Packaged(job),
                (example(job),),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["logits", "probabilities"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
            assert program is not None
            program.save(file, external_data=False)
    except Exception as error:  # whatever a network's code does when it is traced
        raise cannot(job, form, error) from error
    add_metadata(job, file)


def add_metadata(job: Job, file: Path) -> None:
    """Put what a reader has to know into an ONNX file, in place of what others have put there."""
    onnx: Any = importlib.import_module("onnx")
    model = onnx.load(file)
    onnx.helper.set_model_props(model, metadata(job))
    model.doc_string = ""
    onnx.save(model, file)


def open_onnx(file: Path, threads: int) -> Runner:
    """An ONNX file in ONNX Runtime, on the CPU."""
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def run(inputs: Any) -> tuple[Tensor, Tensor]:
        logits, probabilities = session.run(["logits", "probabilities"], {"images": inputs})
        return torch.from_numpy(logits), torch.from_numpy(probabilities)

    return run
