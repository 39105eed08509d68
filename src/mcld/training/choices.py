"""How to compute on a device: what is fastest there as measured, unless the settings say otherwise.

The choice depends on the kind of device alone, so two runs with the same settings compute alike, and ``config.yaml``
holds what was chosen. ``benchmarks/choices.py`` measures it.
"""

import torch

from mcld.configs.schema import Run
from mcld.errors import InputError

_CPU = {
    # 1.15 to 1.5 times the speed in training and evaluation.
    "channels_last": True,
    # Gains 0 to 20% a step for 13 to 60 s of compiling at each start.
    "compile": False,
    # bf16 is 10 to 38 times slower where the CPU has no AMX or AVX512-BF16, and not measured where it has.
    "precision": "32",
    "fused": True,
}
# Not measured, so as PyTorch does by default, but for the fused optimizer: one kernel instead of several of the same
# arithmetic.
_CUDA = {"channels_last": False, "compile": False, "precision": "32", "fused": True}
_OTHER = {"channels_last": False, "compile": False, "precision": "32", "fused": False}


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
        settings.precision = str(best["precision"])
    if settings.channels_last == "auto":
        settings.channels_last = best["channels_last"]
    if settings.compile == "auto":
        settings.compile = best["compile"]
    # A fused optimizer undoes the scaling of the loss itself: there is no moment in which to limit the gradient's norm.
    clashes = settings.precision == "16-mixed" and settings.optimizer.clip is not None
    if settings.optimizer.fused == "auto":
        settings.optimizer.fused = best["fused"] and not clashes
    if settings.optimizer.fused and clashes:
        raise InputError("optimizer.fused=true cannot limit the gradient with precision=16-mixed: optimizer.clip=null")


def describe_choices(settings: Run) -> str:
    """In a few words, after :func:`choose`."""
    words = [f"precision {settings.precision}"]
    words.append("channels last" if settings.channels_last else "channels first")
    words.append(f"{'fused ' if settings.optimizer.fused else ''}{settings.optimizer.name}")
    words.append("compiled" if settings.compile else "not compiled")
    return ", ".join(words)
