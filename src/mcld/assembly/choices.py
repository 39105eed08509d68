"""How to compute on a device: what is fastest there as measured, unless the settings say otherwise.

The choice depends on the kind of device alone, so two runs with the same settings compute alike, and ``config.yaml``
holds what was chosen. ``benchmarks/choices.py`` measures it.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from mcld.assembly.optimizer_options import FROM_TIMM
from mcld.assembly.parted import PARTED
from mcld.configs.schema import RunSettings
from mcld.configs.values import with_values
from mcld.errors import InputError

Settings = TypeVar("Settings", bound=RunSettings)


@dataclass(frozen=True)
class _Best:
    channels_last: bool
    compile: bool
    precision: str
    fused: bool


# Channels last is 1.15 to 1.5 times as fast, a fused optimizer takes 1 to 30 ms a step less. Compiling gains 0 to 20% a
# step for 13 to 60 s at each start; bf16 is 10 to 38 times slower without AMX or AVX512-BF16, not measured with them.
_CPU = _Best(channels_last=True, compile=False, precision="32", fused=True)
# On an H200 small networks at 32 px wait for their launches: channels last changes a step by −5 to +6%, compiling and
# bf16 make it slower, a fused optimizer gains 2 to 12%. Larger images were not measured.
_CUDA = _Best(channels_last=False, compile=False, precision="32", fused=True)
_OTHER = _Best(channels_last=False, compile=False, precision="32", fused=False)


GRAPHS = {"cuda"}
"""Kinds of devices that can replay a step."""
_VECTOR = 16  # float32 numbers in the widest vectors that CPUs have


def device_kind(device: str) -> str:
    """What ``device=auto`` means here: ``cuda``, ``mps`` or ``cpu``; any other device is itself."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose(settings: Settings) -> Settings:
    """The settings without ``auto`` among those that say how to compute, but for channels_last.

    Raises:
        InputError: for a fused optimizer or a compiled network where it cannot be.
    """
    best, fused = _best(settings), settings.optimizer.fused
    precision = best.precision if settings.precision == "auto" else settings.precision
    # A fused optimizer undoes the scaling of the loss itself: there is no moment in which to limit the gradient's norm.
    clashes = precision == "16-mixed" and settings.optimizer.clip is not None
    parted = settings.optimizer.name in PARTED
    unfused = parted or settings.optimizer.name in FROM_TIMM
    fused = best.fused and not clashes and not unfused if fused == "auto" else fused
    if fused and unfused:
        raise InputError(f"optimizer.fused=true: there is no fused form of optimizer={settings.optimizer.name}")
    if fused and clashes:
        raise InputError("optimizer.fused=true cannot limit the gradient with precision=16-mixed: optimizer.clip=null")
    compiled = best.compile and not parted if settings.compile == "auto" else settings.compile
    if compiled and parted:  # a compiled graph gives away what it holds after the first backward pass through it
        raise InputError(
            f"compile=true: a step of optimizer={settings.optimizer.name} takes several backward passes, and a "
            "compiled network allows for one; expected compile=false, or optimizer=sgd"
        )
    step = "eager" if settings.step == "auto" else settings.step
    chosen = with_values(
        settings, {"precision": precision, "compile": compiled, "optimizer.fused": fused, "step": step}
    )
    if step == "graph":
        _check_graph(chosen)
    return chosen


def _check_graph(settings: RunSettings) -> None:
    wrong = {
        "a CUDA device": device_kind(settings.device) not in GRAPHS,
        "one device": settings.devices != 1,
        "compile=false": bool(settings.compile),
        "precision=32 or bf16": settings.precision == "16-mixed",
        "optimizer=sgd or adamw, fused": settings.optimizer.fused is not True,
    }
    if missing := [what for what, lacks in wrong.items() if lacks]:
        raise InputError(f"step=graph needs {', '.join(missing)}; expected that, or step=eager")


def choose_layout(settings: Settings, **trained: nn.Module) -> Settings:
    """The settings without ``channels_last=auto``, for the modules that are trained.

    In channels last, oneDNN's kernel for the weight gradient of strided 1×1 convolutions with less than one vector of
    input channels writes beyond its memory (oneDNN issue 6035): crashes and wrong gradients on the CPU.

    Raises:
        InputError: for ``channels_last=true`` and such a convolution.
    """
    unsafe = None
    if device_kind(settings.device) == "cpu":
        named = ((f"{role}.{name}", part) for role, module in trained.items() for name, part in module.named_modules())
        unsafe = next((name for name, part in named if _overruns(part)), None)
    layout = settings.channels_last
    if layout == "auto":
        layout = _best(settings).channels_last and unsafe is None
    if layout and unsafe is not None:
        raise InputError(
            f"channels_last=true: PyTorch cannot train {unsafe} so on the CPU, a strided 1×1 convolution of fewer than "
            f"{_VECTOR} channels; expected auto or false"
        )
    return with_values(settings, {"channels_last": layout})


def teacher_channels_last(settings: RunSettings) -> bool:
    """The layout of a frozen teacher, by the device alone: whichever student learns from it, it gives the same bits."""
    return _best(settings).channels_last


def _best(settings: RunSettings) -> _Best:
    return {"cpu": _CPU, "cuda": _CUDA}.get(device_kind(settings.device), _OTHER)


def _overruns(part: nn.Module) -> bool:
    if not isinstance(part, nn.Conv2d) or part.kernel_size != (1, 1) or max(part.stride) == 1:
        return False
    return part.in_channels // part.groups < _VECTOR


def describe_choices(settings: RunSettings) -> str:
    """In a few words, when all is chosen."""
    words = [f"precision {settings.precision}"]
    words.append("channels last" if settings.channels_last else "channels first")
    words.append(f"{'fused ' if settings.optimizer.fused else ''}{settings.optimizer.name}")
    words.append("compiled" if settings.compile else "not compiled")
    if settings.step == "graph":
        words.append("replayed steps")
    return ", ".join(words)
