"""``repdistiller``: weights as RepDistiller, mdistiller and their descendants load them."""

import io
from pathlib import Path

import torch

from mcld.errors import InputError
from mcld.exports._base import Job, Runner, reading
from mcld.exports._weights import Weights, empty, runner
from mcld.files import atomic_write_bytes
from mcld.models._registry import find_model
from mcld.models.checkpoint import load_checkpoint
from mcld.models.network import Network
from mcld.registry import register_export

_SHARED = ("mobilenetv2", "resnet", "resnet_deep", "shufflenetv1", "shufflenetv2", "vgg", "wrn")


@register_export("repdistiller")
class RepDistiller(Weights):
    """One torch.save file {"model": state dict}, as RepDistiller and mdistiller load their CIFAR networks."""

    files = ("model.pth",)

    def check(self, job: Job) -> None:
        """See :meth:`Export.check`."""
        check_shared(job.network)

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Export.write`."""
        network, file = job.network, self.files[0]
        state = {key: value.detach().cpu().contiguous().clone() for key, value in network.model.state_dict().items()}
        content = io.BytesIO()
        torch.save({"model": state}, content)
        atomic_write_bytes(folder / file, content.getvalue())
        spec = network.spec
        made = f'model_dict["{find_model(spec.architecture).name}"](num_classes={spec.num_classes})'
        return [f'there: {made}.load_state_dict(torch.load("{file}")["model"])', reading(job)]

    def open(self, job: Job, folder: Path, threads: int) -> Runner:  # noqa: ARG002 (those of the process)
        """See :meth:`Export.open`."""
        network = empty(job)
        load_checkpoint(network.model, folder / self.files[0])
        return runner(network)


def check_shared(network: Network) -> None:
    """Check that RepDistiller and mdistiller have this network, with the same keys and shapes.

    Raises:
        InputError: when they do not.
    """
    spec = network.spec
    name = f"{spec.architecture} with {spec.in_channels} channel{'s' * (spec.in_channels > 1)}"
    if spec.options:
        name += f" and options {spec.options}"
    if spec.reused:
        name += " and a teacher's classifier"
    try:
        known = find_model(spec.architecture).family in _SHARED
    except InputError:
        known = False
    if not known or spec.in_channels != 3 or spec.options or spec.reused:
        raise InputError(
            f"RepDistiller and mdistiller have no {name}; the format repdistiller is for their CIFAR networks "
            "(resnet*, wrn_*, vgg*, MobileNetV2, ShuffleV1, ShuffleV2) with 3 channels: take --format safetensors"
        )
