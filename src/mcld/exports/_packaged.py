"""A network with what belongs before and after it, as one module that compilers can take apart."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import mcld
from mcld.exports._base import Job
from mcld.models.folding import fold
from mcld.outputs import split_output


class Packaged(nn.Module):
    """From images to logits and probabilities, both (B, C) float32.

    Args:
        job: says what images it takes (:meth:`Job.inputs`) and the temperature of the probabilities. Batch
            normalisation is folded into the convolutions where that can be done.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.network = fold(job.network).requires_grad_(False)
        self.preprocess, self.temperature = job.preprocess, job.temperature
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        network: Any = self.network
        if self.preprocess:
            images = (images.permute(0, 3, 1, 2).to(torch.float32) / 255 - network.mean) / network.std
        logits = split_output(network.model(images), network.spec.architecture)[0]
        return logits, torch.softmax(logits / self.temperature, dim=1)


def example(job: Job) -> Tensor:
    """Two images as a :class:`Packaged` takes them."""
    return job.inputs(torch.zeros(2, job.network.spec.in_channels, *job.size, dtype=torch.uint8))


def about(job: Job) -> dict[str, Any]:
    """What a reader of the exported file has to know, as JSON values; kept in the file's metadata."""
    spec = job.network.spec
    takes = "uint8 (batch, height, width, channels)" if job.preprocess else "float32 (batch, channels, height, width)"
    return {
        "takes": takes,
        "normalisation": "inside" if job.preprocess else "scale to 0..1, subtract mean, divide by std",
        "mean": spec.mean,
        "std": spec.std,
        "mode": job.mode,
        "resize": job.resize,
        "crop": list(job.size),
        "interpolation": "bilinear",
        "classes": spec.classes or [str(number) for number in range(spec.num_classes)],
        "temperature": job.temperature,
        "architecture": spec.architecture,
        "mcld": mcld.__version__,
    }


def metadata(job: Job) -> dict[str, str]:
    """The same as text by key: all of it as JSON under ``mcld``, and each part by itself."""
    facts = about(job)
    rows = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    rows["mcld_version"] = rows.pop("mcld")
    return {"mcld": json.dumps(facts, ensure_ascii=False), **rows}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters print progress and advice, which are nothing to the person."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
