"""A trained network for images as they come: prepared as in evaluation, answered with classes and probabilities."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mcld.data.images import Reading, prepared, read_image
from mcld.data.preprocessing import Preprocessing
from mcld.errors import InputError
from mcld.models.network import Network
from mcld.text import printable

if TYPE_CHECKING:
    from PIL.Image import Image

OneImage: TypeAlias = "str | os.PathLike[str] | Image | NDArray[Any] | Tensor"
Images: TypeAlias = "OneImage | Sequence[OneImage]"
BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What a network says of an image.

    Attributes:
        label: the most likely class: its name, or its number where nobody named it.
        probability: of it, in [0, 1], at the fitted temperature where there is one.
        top: (class, probability) of the most likely classes, the first first.
        index: number of the most likely class.
    """

    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    index: int


class Classifier(Network):
    """A trained network; what :func:`mcld.load` returns.

    Called with a batch of prepared images it gives logits, as any :class:`Network`; :meth:`predict` takes images as
    they come.

    Attributes:
        preprocessing: how an image of any size is prepared, as in evaluation.
        doubt: what a person should know of ``preprocessing``, or empty; :meth:`predict` warns of it.
        refusal: why images cannot be prepared at all, or empty.
    """

    def __init__(self, network: Network, preprocessing: Preprocessing, *, doubt: str = "", refusal: str = "") -> None:
        super().__init__(network.model, network.spec)
        self.preprocessing, self.doubt, self.refusal = preprocessing, doubt, refusal
        self._told = False

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return self.spec.classes or [str(index) for index in range(self.spec.num_classes)]

    def predict(self, images: Images, *, top: int = 5) -> Any:
        """Classes and probabilities.

        Files and images are prepared as in evaluation, to the bit: decoded upright, turned to grey or colour as the
        network takes them, resized and cropped. So are arrays and tensors of whole numbers; floating point ones, which
        have no such definition, are resized as tensors. What has the shape of a batch gives a list.

        Args:
            images: a path, a PIL image, an array (H, W) or (H, W, channels), or a tensor (channels, H, W), of uint8 or
                floating point from 0 to 1; a batch of arrays (B, H, W, channels) or of tensors (B, channels, H, W); or
                a sequence of any of these.
            top: classes to name, at most all.

        Returns:
            A :class:`Prediction`, or a list of them for a sequence or a batch.

        Raises:
            InputError: for what is no image, a file that cannot be read, an array with another number of channels than
                the network takes, or ``top`` below 1.

        Example:
            >>> student = mcld.load("runs/small")  # doctest: +SKIP
            >>> student.predict("photo.jpg").label  # doctest: +SKIP
            'hat'
        """
        if self.doubt:
            warnings.warn(self.doubt, stacklevel=2)
        if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
            images = list(images)
        if isinstance(images, list | tuple):
            chunks = (images[first : first + BATCH] for first in range(0, len(images), BATCH))
            return [answer for chunk in chunks for answer in self.answers([self.prepare(i) for i in chunk], top=top)]
        return self.answers([self.prepare(images)], top=top)[0]  # type: ignore[arg-type]  # no sequence

    def prepare(self, image: OneImage) -> Tensor:
        """One image as the network sees it in evaluation: (channels, height, width), not normalised yet.

        Raises:
            InputError: when it is none, or cannot be read.
        """
        if self.refusal:
            raise InputError(self.refusal)
        if isinstance(image, str | os.PathLike):
            path = os.fspath(image)
            if "://" in path:
                raise InputError(f"{path} is an address; expected a file: nothing is fetched from a network")
            return self.preprocessing.render(read_image(path, self._mode(path), self._reading, self._tell))
        if isinstance(image, np.ndarray | Tensor):
            return self._from_numbers(image)
        from PIL.Image import Image

        if isinstance(image, Image):
            try:
                return self.preprocessing.render(prepared(image, self._mode("an image"), self._reading))
            except ValueError as error:
                raise InputError(f"an image of mode {image.mode} cannot be taken: {error}") from error
        raise InputError(f"an image is {type(image).__name__}; expected a path, a PIL image, an array or a tensor")

    def _tell(self, what: str) -> None:
        if not self._told:
            self._told = True
            logging.getLogger(__name__).warning("%s, here and in others alike", printable(what))

    def answers(self, images: Sequence[Tensor], *, top: int = 5) -> list[Prediction]:
        """The answers to prepared images; see :meth:`predict`."""
        if top < 1:
            raise InputError(f"top is {top}; expected at least 1")
        if not images:
            return []
        training = self.training
        self.eval()
        with torch.no_grad():
            if any(image.is_floating_point() for image in images):
                images = [image if image.is_floating_point() else image / 255 for image in images]
            logits = self(torch.stack(list(images)).to(self.mean.device)).double().cpu()
        self.train(training)
        shares = (logits / (self.spec.temperature or 1.0)).softmax(dim=1)
        if not bool(shares.isfinite().all()):
            raise InputError("the network answers NaN or Inf: its weights are broken, or its normalisation is wrong")
        best = shares.topk(min(top, shares.shape[1]), dim=1)
        names = self.classes
        found = []
        for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            named = tuple((names[index], value) for index, value in zip(indices, values, strict=True))
            found.append(Prediction(named[0][0], named[0][1], named, indices[0]))
        return found

    def stream(self, paths: Iterable[str], *, top: int = 5) -> Iterator[tuple[str, Prediction | InputError]]:
        """Each file with its answer, or with why it could not be read; in order, few of them in memory at a time."""

        def load(path: str) -> Tensor | InputError:
            try:
                return self.prepare(path)
            except InputError as error:
                return error

        def answered(part: list[tuple[str, Any]]) -> Iterator[tuple[str, Prediction | InputError]]:
            answers = iter(self.answers([image for _, image in part if isinstance(image, Tensor)], top=top))
            for path, image in part:
                yield path, (next(answers) if isinstance(image, Tensor) else image)

        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            waiting: list[tuple[str, Any]] = []
            for path in paths:
                waiting.append((path, pool.submit(load, path)))
                if len(waiting) == 2 * BATCH:  # the later half is decoded while the network answers to the first
                    part, waiting = waiting[:BATCH], waiting[BATCH:]
                    yield from answered([(name, future.result()) for name, future in part])
            for first in range(0, len(waiting), BATCH):
                part = waiting[first : first + BATCH]
                yield from answered([(name, future.result()) for name, future in part])

    @property
    def _reading(self) -> Reading:
        return Reading(self.preprocessing.depth)

    def _mode(self, what: str) -> str:
        if not self.preprocessing.mode:
            raise InputError(
                f"{what}: the network takes {self.spec.in_channels} channels, which no image file has; expected arrays "
                f"(height, width, {self.spec.in_channels})"
            )
        return self.preprocessing.mode

    def _from_numbers(self, given: NDArray[Any] | Tensor) -> Tensor:
        channels, what = self.spec.in_channels, "array" if isinstance(given, np.ndarray) else "tensor"
        expected = f"(height, width, {channels})" if what == "array" else f"({channels}, height, width)"
        expected += " or (height, width)" if channels == 1 else ""
        if isinstance(given, np.ndarray) and given.dtype != np.uint8 and given.dtype.kind != "f":
            raise InputError(f"an image is an array of {given.dtype}; expected uint8, or floating point from 0 to 1")
        if isinstance(given, np.ndarray):
            image = torch.from_numpy(np.array(given, dtype=np.uint8 if given.dtype == np.uint8 else np.float32))
        else:
            image = given.detach()
        if image.ndim == 2:
            image = image[None]
        elif image.ndim == 3 and what == "array":
            image = image.permute(2, 0, 1)
        if image.ndim != 3 or image.shape[0] != channels or 0 in image.shape:
            raise InputError(f"an image is {_a(what)} of shape {tuple(given.shape)}; the network takes {expected}")
        if image.dtype is torch.uint8:
            if self.preprocessing.mode:
                from PIL import Image

                pixels = image.cpu().permute(1, 2, 0).numpy()
                picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels))
                return self.preprocessing.render(picture)
        elif not image.is_floating_point():
            raise InputError(f"an image is a tensor of {given.dtype}; expected uint8, or floating point from 0 to 1")
        elif not bool(((image >= 0) & (image <= 1)).all()):
            raise InputError(
                f"an image is {_a(what)} of floats from {float(image.min()):.4g} to {float(image.max()):.4g}; expected "
                "0 to 1: the network normalises for itself"
            )
        fitted: Tensor = self.preprocessing.fit(image, (image.shape[2], image.shape[1]))
        return fitted.float() if fitted.is_floating_point() else fitted


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"
