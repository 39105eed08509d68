"""How to compute on a device: what is fastest there as measured, unless the settings say otherwise.

The choice depends on the kind of device alone, so two runs with the same settings compute alike, and ``config.yaml``
holds what was chosen. ``benchmarks/choices.py`` measures it.
"""

from dataclasses import dataclass

import torch

from mcld.configs.schema import Run
from mcld.errors import InputError


@dataclass(frozen=True)
class _Best:
    channels_last: bool
    compile: bool
    precision: str
    fused: bool


# Channels last is 1.15 to 1.5 times as fast, a fused optimizer takes 1 to 30 ms a step less. Compiling gains 0 to 20% a
# step for 13 to 60 s at each start; bf16 is 10 to 38 times slower without AMX or AVX512-BF16, not measured with them.
_CPU = _Best(channels_last=False, compile=False, precision="32", fused=True)
# Not measured, so as PyTorch does by default, but for the fused optimizer: the same arithmetic in fewer kernels.
_CUDA = _Best(channels_last=False, compile=False, precision="32", fused=True)
_OTHER = _Best(channels_last=False, compile=False, precision="32", fused=False)


def device_kind(device: str) -> str:
    """What ``device=auto`` means here: ``cuda``, ``mps`` or ``cpu``; any other device is itself."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose(settings: Run) -> None:
    """Replace every ``auto`` among the settings that say how to compute.

    Raises:
        InputError: for a fused optimizer where it cannot be.
    """
    best = {"cpu": _CPU, "cuda": _CUDA}.get(device_kind(settings.device), _OTHER)
    if settings.precision == "auto":
        settings.precision = best.precision
    if settings.channels_last == "auto":
        settings.channels_last = best.channels_last
    if settings.compile == "auto":
        settings.compile = best.compile
    # A fused optimizer undoes the scaling of the loss itself: there is no moment in which to limit the gradient's norm.
    clashes = settings.precision == "16-mixed" and settings.optimizer.clip is not None
    if settings.optimizer.fused == "auto":
        settings.optimizer.fused = best.fused and not clashes
    if settings.optimizer.fused and clashes:
        raise InputError("optimizer.fused=true cannot limit the gradient with precision=16-mixed: optimizer.clip=null")


def describe_choices(settings: Run) -> str:
    """In a few words, after :func:`choose`."""
    words = [f"precision {settings.precision}"]
    words.append("channels last" if settings.channels_last else "channels first")
    words.append(f"{'fused ' if settings.optimizer.fused else ''}{settings.optimizer.name}")
    words.append("compiled" if settings.compile else "not compiled")
    return ", ".join(words)
