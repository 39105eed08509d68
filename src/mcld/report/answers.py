"""What student and teacher answer on the validation images: all that a page about a run shows of them."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mcld.data import Split
from mcld.data.npz import NpzFile, too_large
from mcld.errors import InputError
from mcld.evaluation.calibration import Calibration, calibrate, most_likely
from mcld.files import atomic_write_bytes

FORMAT = 1
SHOWN = 12
"""Images of a kind that are shown."""
SIDE = 112
"""The longest side of a picture, in pixels."""
_GB = 1.0  # that one of the arrays may take; a million images take 8 MB


@dataclass(frozen=True)
class Answers:
    """The answers of a run's last weights; N images, C classes.

    Attributes:
        weights: digest of the student's weights.
        labels: (N,) int64.
        predicted: (N,) int64, the most likely class.
        confidence: (N,) its probability, as the network gives it.
        calibrated: (N,) its probability at ``temperature``.
        temperature: of the student's softmax, fitted on these images (:func:`fit_temperature`).
        error: calibration error before and after, in [0, 1].
        teacher: (N,) the teacher's most likely class; None without a teacher.
        teacher_confidence: (N,) its probability; None without a teacher.
        pictures: PNG files by image: those that :func:`worth_a_look` names.
    """

    weights: str
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    calibrated: NDArray[np.float32]
    temperature: float
    error: tuple[float, float]
    teacher: NDArray[np.int64] | None
    teacher_confidence: NDArray[np.float32] | None
    pictures: dict[int, bytes]


def answers_of(
    logits: Tensor,
    teacher: tuple[Tensor, Tensor] | None,
    split: Split,
    weights: str,
    calibration: Calibration | None = None,
) -> Answers:
    """The answers to a split.

    Args:
        logits: (N, C) of the student, on the CPU.
        teacher: the teacher's class (N,) and its probability (N,), on the CPU, where there is one.
        split: the images.
        weights: digest of the student's weights.
        calibration: of the student on these images; None to find it.
    """
    labels = split.labels.cpu()
    found = calibration or calibrate(logits, labels)
    predicted, confidence = most_likely(logits)
    answers = Answers(
        weights=weights,
        labels=labels.numpy(),
        predicted=predicted.numpy(),
        confidence=confidence.numpy(),
        calibrated=most_likely(logits, found.temperature)[1].numpy(),
        temperature=found.temperature,
        error=(found.before, found.after),
        teacher=None if teacher is None else teacher[0].numpy(),
        teacher_confidence=None if teacher is None else teacher[1].numpy(),
        pictures={},
    )
    wanted = sorted({image for images in worth_a_look(answers).values() for image in images})
    answers.pictures.update(zip(wanted, _pictures(split, wanted), strict=True))
    return answers


def worth_a_look(answers: Answers) -> dict[str, list[int]]:
    """Images to show: the student's surest mistakes, and where only the teacher or only the student is right."""

    def surest(which: NDArray[np.bool_], confidence: NDArray[np.float32]) -> list[int]:
        images = np.flatnonzero(which)
        return [int(image) for image in images[np.argsort(-confidence[images], kind="stable")][:SHOWN]]

    right = answers.predicted == answers.labels
    found = {"mistakes": surest(~right, answers.calibrated)}
    if answers.teacher is not None and answers.teacher_confidence is not None:
        teacher_right = answers.teacher == answers.labels
        found["teacher"] = surest(teacher_right & ~right, answers.teacher_confidence)
        found["student"] = surest(~teacher_right & right, answers.calibrated)
    return found


def write_answers(answers: Answers, file: Path) -> None:
    """Write them as an npz file without pickles."""
    numbers = {
        "format": FORMAT,
        "weights": answers.weights,
        "temperature": answers.temperature,
        "error": answers.error,
        "pictures": list(answers.pictures),
    }
    arrays: dict[str, NDArray[np.generic]] = {
        "about": np.frombuffer(json.dumps(numbers).encode(), dtype=np.uint8),
        **{name: getattr(answers, name) for name in ("labels", "predicted", "confidence", "calibrated")},
        **{f"picture{image}": np.frombuffer(data, dtype=np.uint8) for image, data in answers.pictures.items()},
    }
    if answers.teacher is not None and answers.teacher_confidence is not None:
        arrays |= {"teacher": answers.teacher, "teacher_confidence": answers.teacher_confidence}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # its keywords are arrays
    atomic_write_bytes(file, buffer.getvalue())


def read_answers(file: Path) -> Answers:
    """Read what :func:`write_answers` wrote.

    Raises:
        InputError: when the file is missing, damaged or of another version.
    """
    try:
        with NpzFile(file) as archive:
            arrays = {name: _small(archive, name) for name in archive.names}
            about = json.loads(arrays["about"].tobytes())
            if about["format"] != FORMAT:
                raise InputError(f"{file} has the format {about['format']}; expected {FORMAT}")
            count = len(arrays["labels"])
            columns: dict[str, Any] = {
                name: arrays[name] for name in ("labels", "predicted", "confidence", "calibrated")
            }
            with_teacher = "teacher" in arrays
            columns |= {name: arrays[name] if with_teacher else None for name in ("teacher", "teacher_confidence")}
            if any(column is not None and column.shape != (count,) for column in columns.values()):
                raise ValueError("its columns differ in length")
            return Answers(
                weights=str(about["weights"]),
                temperature=float(about["temperature"]),
                error=(float(about["error"][0]), float(about["error"][1])),
                pictures={int(image): arrays[f"picture{image}"].tobytes() for image in about["pictures"]},
                **columns,
            )
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{file} cannot be read ({type(error).__name__}); remove it to make it anew") from error


def _pictures(split: Split, images: Sequence[int]) -> list[bytes]:
    """Their plain views as PNG files."""
    if not images:
        return []
    index = torch.tensor(images)
    shown = split.images(index, torch.full_like(index, split.views.center)).cpu()
    return [_png(image) for image in shown]


def _png(image: Tensor) -> bytes:
    pixels = image.permute(1, 2, 0).numpy()
    pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _small(archive: NpzFile, name: str) -> NDArray[Any]:
    """An array of what may be another's file, if it has an end."""
    if reason := too_large(archive.header(name), _GB):
        raise ValueError(f"{name} would {reason}")
    return archive.read(name)
