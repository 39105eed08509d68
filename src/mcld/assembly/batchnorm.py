"""Batch normalisation over several devices."""

from torch import nn

from mcld.assembly.choices import device_kind
from mcld.configs.schema import RunSettings
from mcld.models.network import Network


def share_statistics(network: Network, settings: RunSettings, notes: list[str]) -> None:
    """Let batch normalisation see the whole batch of all devices, as on one; where that cannot be, say so.

    The keys and values of the state dict stay as they are.

    Args:
        network: that is trained.
        settings: with the devices.
        notes: gets a line for what a person should know.
    """
    norms = [part for part in network.model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if settings.devices < 2 or not norms:
        return
    if device_kind(settings.device) == "cuda":
        from timm.layers import norm_act  # whose conversion keeps the activation of timm's own layers, unlike torch's

        network.model = norm_act.convert_sync_batchnorm(network.model)  # type: ignore[no-untyped-call]  # timm's
        return
    share = settings.data.batch_size // settings.devices
    notes.append(
        f"warning: batch normalisation takes its statistics from the {share} images of one device, not from the "
        f"{settings.data.batch_size} of a batch: another training than on one device (synchronised it is on CUDA only)"
    )
