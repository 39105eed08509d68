"""What every export format is."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from mcld.errors import InputError
from mcld.models.network import Network

Runner: TypeAlias = Callable[[Any], tuple[Tensor, Tensor | None]]
"""Runs an export on what :meth:`Export.inputs` made: its logits (B, C) and its probabilities, if it gives any."""
Images: TypeAlias = Callable[[int, int], Tensor]
"""``images(n, half)``: at most n training images uint8 (n, channels, H, W) of one half (0 or 1), spread evenly."""


@dataclass(frozen=True)
class Job:
    """A trained network on its way out.

    Attributes:
        network: in evaluation mode, on the CPU.
        size: (height, width) of its images, in pixels.
        resize: length of the short side before the central crop to ``size``, in pixels.
        preprocess: whether the export normalises for itself.
        temperature: by which the logits are divided before softmax.
        calibration: training images, where they are at hand.
        missing: why they are not.
    """

    network: Network
    size: tuple[int, int]
    resize: int
    preprocess: bool = True
    temperature: float = 1.0
    calibration: Images | None = None
    missing: str = ""

    @property
    def mode(self) -> str:
        """Of an image for Pillow: ``RGB``, ``L``, or empty for another number of channels."""
        return {1: "L", 3: "RGB"}.get(self.network.spec.in_channels, "")

    def inputs(self, images: Tensor) -> Tensor:
        """What an export with this preprocessing takes, for images uint8 (B, channels, H, W).

        Returns:
            uint8 (B, H, W, channels); without preprocessing normalised float32 (B, channels, H, W).
        """
        if self.preprocess:
            return images.permute(0, 2, 3, 1).contiguous()
        with torch.no_grad():
            return self.network.normalize(images)


class Export:
    """A format for trained networks, under a name (:func:`mcld.register_export`).

    What it writes is read back and compared with the network before it reaches the person's folder.
    """

    name: ClassVar[str] = ""
    """The registered name."""
    title: ClassVar[str] = ""
    """In one line; by default the docstring's first."""
    files: ClassVar[tuple[str, ...]] = ()
    """What it writes, relative to the folder; the first is the one that a person names."""
    needs: ClassVar[tuple[str, ...]] = ()
    """The packages that it imports, if they are none of those that mcld needs anyway."""
    extra: ClassVar[str] = ""
    """The extra of a package that brings them, such as ``mcld[export]``."""
    exact: ClassVar[bool] = True
    """Whether its logits are PyTorch's up to rounding; else it may answer otherwise for a few images, which is told."""
    normalizes: ClassVar[bool] = False
    """Whether the normalisation can be inside, so that it can also be left out."""
    use: ClassVar[bool] = False
    """Whether the folder gets a ``use.py``, which runs an ONNX file."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "title" not in vars(cls):
            cls.title = (cls.__doc__ or "").partition("\n")[0].rstrip(".")

    def check(self, job: Job) -> None:
        """Check that the network can be written so, before anything is.

        Raises:
            InputError: when it cannot, saying why.
        """

    def write(self, job: Job, folder: Path) -> list[str]:
        """Write :attr:`files` into an empty folder.

        Returns:
            Lines for a person, such as how to read it.

        Raises:
            InputError: when the network cannot be written so, saying why.
        """
        raise NotImplementedError

    def inputs(self, job: Job, images: Tensor) -> Any:
        """What the runner takes, for images uint8 (B, channels, H, W)."""
        return job.inputs(images)

    def open(self, job: Job, folder: Path, threads: int) -> Runner:
        """Read back what :meth:`write` wrote, to run it on the CPU.

        Args:
            job: as for :meth:`write`.
            folder: likewise.
            threads: of the CPU.
        """
        raise NotImplementedError


def check_packages(form: type[Export]) -> None:
    """Check that what a format needs is installed.

    Raises:
        InputError: when it is not, saying how to get it.
    """
    missing = [name for name in form.needs if importlib.util.find_spec(name) is None]
    if missing:
        these = f"package{'s' * (len(missing) > 1)} {' and '.join(missing)}"
        raise InputError(
            f"format {form.name} needs the {these}, not installed here: pip install '{form.extra or ' '.join(missing)}'"
        )


def cannot(job: Job, form: str, error: BaseException) -> InputError:
    """The error for a network that an exporter has stumbled over, in one line."""
    while error.__cause__ is not None:  # an exporter wraps what went wrong in pages of advice
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = f"{type(error).__name__}: {' '.join(lines)[:300]}" if lines else type(error).__name__
    return InputError(f"{job.network.spec.architecture} cannot be exported as {form}: {reason}")


def reading(job: Job) -> str:
    """A line on the images that weights alone expect."""
    spec = job.network.spec
    mean, std = ([round(value, 4) for value in values] for values in (spec.mean, spec.std))
    size = "×".join(map(str, job.size))
    return f"it was trained on images of {size} px scaled to 0..1, minus mean {mean}, divided by std {std}"
