"""``safetensors``: the weights, and what rebuilds the network."""

import json
from pathlib import Path

from mcld.exports._base import Job, Runner, reading
from mcld.exports._weights import Weights, empty, runner
from mcld.files import atomic_write_text
from mcld.models.network import load_weights, save_weights
from mcld.registry import register_export


@register_export("safetensors")
class Safetensors(Weights):
    """The state dict as safetensors, and model.json: architecture, classes, normalisation."""

    files = ("model.safetensors", "model.json")

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Export.write`."""
        save_weights(job.network, folder / self.files[0])
        spec = json.dumps(job.network.spec.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        atomic_write_text(folder / self.files[1], spec + "\n")
        return [reading(job)]

    def open(self, job: Job, folder: Path, threads: int) -> Runner:  # noqa: ARG002 (those of the process)
        """See :meth:`Export.open`."""
        network = empty(job)
        load_weights(network.model, folder / self.files[0])
        return runner(network)
