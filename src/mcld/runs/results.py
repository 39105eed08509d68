"""What a finished run of a bench measured: one small JSON file, from which reports are made without any weights."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcld.errors import InputError
from mcld.files import read_file

FORMAT = 1
RESULTS = "results.json"
WEIGHTS = ("last", "best")


@dataclass(frozen=True)
class Results:
    """The content of ``results.json``; every share is in [0, 1].

    Attributes:
        file: it was read from.
        cell: ``id``, ``pair``, ``method`` and ``seed``.
        settings: that decide what was measured, by dotted key, as the suite asked for them.
        environment: as in ``environment.json``; ``inputs`` are digests of the data and the teacher.
        summary: as in ``summary.json``, with the curves of all epochs.
        test: on the test data: ``images``, the numbers of the ``last`` and the ``best`` weights and of the
            ``teacher``, and what pictures need.
    """

    file: Path
    cell: dict[str, Any]
    settings: dict[str, Any]
    environment: dict[str, Any]
    summary: dict[str, Any]
    test: dict[str, Any]

    def correct(self, weights: str) -> NDArray[np.bool_]:
        """(N,) which test images the ``last`` or the ``best`` weights get right."""
        return unpack_bits(self.test[weights]["correct"], int(self.test["images"]))

    def curve(self, name: str) -> list[float]:
        """A column of ``metrics.csv``."""
        values: list[float] = self.summary["curves"][name]
        return values

    @property
    def terms(self) -> list[str]:
        """The names of the loss terms, cross-entropy first."""
        names = list(self.summary["curves"])
        return names[names.index("loss") + 1 : names.index("train_top1")]

    @property
    def seconds_per_epoch(self) -> float:
        """The median over the epochs, validation included."""
        return float(np.median(np.diff([0.0, *self.curve("seconds")])))


def read_results(file: Path) -> Results:
    """Read a file of results.

    Raises:
        InputError: when it is damaged or of another format.
    """
    try:
        content = json.loads(read_file(file, follow=False))
        if content["format"] != FORMAT:
            raise InputError(f"{file} has the format {content['format']}; expected {FORMAT}")
        found = Results(file, *(content[key] for key in ("cell", "settings", "environment", "summary", "test")))
        for weights in WEIGHTS:
            found.correct(weights)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{file} cannot be read ({type(error).__name__}: {error}); remove it to measure anew"
        ) from error
    return found


def results_text(
    cell: dict[str, Any],
    settings: dict[str, Any],
    environment: dict[str, Any],
    summary: dict[str, Any],
    test: dict[str, Any],
) -> str:
    """The content of the file; see :class:`Results`. Curves are rounded to six digits.

    The file is made to be shown, so where this machine keeps its programs and its stores is left out.
    """
    if command := environment.get("command"):
        environment = {**environment, "command": ["mcld", *command[1:]]}
    if stored := (summary.get("teacher") or {}).get("stored"):
        shown = {**stored, "folder": Path(stored["folder"]).name}
        summary = {**summary, "teacher": {**summary["teacher"], "stored": shown}}
    curves = {name: [float(f"{value:.6g}") for value in values] for name, values in summary["curves"].items()}
    content = {
        "format": FORMAT,
        "cell": cell,
        "settings": settings,
        "environment": environment,
        "summary": {**summary, "curves": curves},
        "test": test,
    }
    lines = (
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in content.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def pack_bits(bits: NDArray[np.bool_]) -> str:
    """Booleans as text, an eighth of a byte each before base64.

    >>> pack_bits(np.array([True, False, True]))
    'oA=='
    """
    return base64.b64encode(np.packbits(bits).tobytes()).decode("ascii")


def unpack_bits(text: str, count: int) -> NDArray[np.bool_]:
    """The inverse of :func:`pack_bits`.

    Raises:
        ValueError: when there are not as many.
    """
    raw = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    if len(raw) != (count + 7) // 8:
        raise ValueError(f"{8 * len(raw)} bits for {count} images")
    return np.unpackbits(raw, count=count).astype(np.bool_)


def pack_numbers(values: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """An array as text with 256 steps between its lowest and highest value, for pictures.

    >>> packed = pack_numbers(np.array([[0.0, 0.5], [0.25, 1.0]]))
    >>> bool(np.abs(unpack_numbers(packed) - [[0.0, 0.5], [0.25, 1.0]]).max() <= 0.5 / 255)
    True
    """
    low, high = float(values.min()), float(values.max())
    steps = np.round((values - low) / ((high - low) or 1) * 255).astype(np.uint8)
    text = base64.b64encode(steps.tobytes()).decode("ascii")
    return {"shape": list(values.shape), "low": low, "high": high, "steps": text}


def unpack_numbers(packed: dict[str, Any]) -> NDArray[np.float64]:
    """The inverse of :func:`pack_numbers`, up to half a step."""
    steps = np.frombuffer(base64.b64decode(packed["steps"], validate=True), dtype=np.uint8).astype(np.float64)
    low, high = float(packed["low"]), float(packed["high"])
    return low + steps.reshape(packed["shape"]) / 255 * (high - low)
