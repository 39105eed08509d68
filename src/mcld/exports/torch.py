"""``torch``: a program of torch.export, for any PyTorch and for compilers that start from one."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcld.exports._base import Export, Job, Runner, cannot
from mcld.exports._packaged import Packaged, example, metadata, quiet
from mcld.registry import register_export


@register_export("torch")
class TorchProgram(Export):
    """A torch.export program: PyTorch runs it without the code of the network."""

    files = ("model.pt2",)
    normalizes = True

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Export.write`."""
        file = folder / self.files[0]
        try:
            with quiet():
                program = torch.export.export(
                    Packaged(job), (example(job),), dynamic_shapes=({0: torch.export.Dim("batch")},)
                )
                torch.export.save(program, file, extra_files={"mcld.json": metadata(job)["mcld"]})
        except Exception as error:  # whatever a network's code does when it is traced
            raise cannot(job, self.name, error) from error
        return [f'there: logits, probabilities = torch.export.load("{file.name}").module()(images)']

    def open(self, job: Job, folder: Path, threads: int) -> Runner:  # noqa: ARG002 (those of the process)
        """See :meth:`Export.open`."""
        with quiet():
            module: Any = torch.export.load(folder / self.files[0]).module()

        def run(inputs: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                logits, probabilities = module(inputs)
            return logits, probabilities

        return run
