"""``mcld predict``."""

import glob
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcld.cli.main import Parser
from mcld.errors import InputError
from mcld.text import csv_text, printable

if TYPE_CHECKING:
    from mcld.evaluation.classifier import Prediction

EPILOG = """\
IMAGES are files, folders (with all that is below them), patterns such as 'photos/*.jpg', and - for a list on standard
input, one name in a line. Never addresses: nothing is fetched from a network. Images are prepared as in evaluation:
turned to grey or colour as the network takes them, resized, cropped. Probabilities are at the temperature that was
fitted after training.

What cannot be read is told on standard error and skipped. Exit status: 0 when every image was read, 1 when some were
skipped, 2 when none could be read or the command is wrong.

example:
  mcld predict runs/small photo.jpg
  mcld predict runs/small photos --csv > answers.csv
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("predict", "RUN IMAGES... [--top K] [--json | --csv]", EPILOG)
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders, patterns, or - for a list")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes to name for each image (default: 3)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="an object for each image, one in a line")
    form.add_argument("--csv", action="store_true", help="a table")
    parser.add_argument("--weights", default="last", metavar="WHICH", help="last or best (default: last)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or mps (default: auto)")
    given = parser.parse_intermixed_args(list(arguments))
    if given.top < 1:
        raise InputError(f"--top {given.top}; expected at least 1")
    files = list(_files(given.images))

    from rich.console import Console

    from mcld.assembly.classifier import load_classifier
    from mcld.display import Display

    classifier = load_classifier(given.run, given.weights)
    if classifier.refusal:
        raise InputError(classifier.refusal)
    classifier.to(_device(given.device))
    if classifier.doubt:
        print(printable(f"mcld: warning: {classifier.doubt}"), file=sys.stderr)
    if classifier.spec.temperature is None:
        said = f"no temperature was fitted for the {given.weights} weights of {given.run}: probabilities are as trained"
        print(printable(f"mcld: {said}"), file=sys.stderr)
    columns = _columns(given.top, len(classifier.classes))
    if given.csv:
        print(csv_text(columns, []), end="")
    skipped = 0
    out = None if sys.stdout.isatty() else sys.stdout  # the bar's console, on standard error, takes over sys.stdout
    with Display(Console(stderr=True)).bar(len(files), 0, given.run) as bar:
        for file, answer in classifier.stream(files, top=given.top):
            bar.step(1)
            if bar.images % 64 == 0:
                bar.describe(printable(given.run), {})
            if isinstance(answer, InputError):
                skipped += 1
                print(f"mcld: skipped: {answer}", file=sys.stderr)
            if given.csv:
                text = csv_text(columns, [_cells(file, answer)]).partition("\n")[2]
            else:
                text = _json_line(file, answer) if given.json else _text_line(file, answer)
            print(text, end="", file=out, flush=True)
    if skipped == len(files):
        raise InputError(f"none of the {len(files):,} images could be read" if skipped > 1 else "no image was read")
    if skipped:
        print(f"mcld: skipped {skipped:,} of {len(files):,} images", file=sys.stderr)
    return 1 if skipped else 0


def _files(words: Sequence[str]) -> Iterator[str]:
    """The files that are meant.

    Raises:
        InputError: for an address, a folder without images or a pattern that fits nothing.
    """
    from mcld.data.folder import list_images

    for word in words:
        if word == "-":
            yield from _files([line for line in _lines() if line != "-"])
            continue
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", word):
            raise InputError(f"{word} is an address; expected files: nothing is fetched from a network")
        if _is_folder(word):
            found = list_images(Path(word))
            if not found:
                raise InputError(f"{word} holds no image that mcld reads; expected .jpg, .png or other image files")
            yield from (str(Path(word) / file) for file in found)
        elif glob.has_magic(word) and not os.path.lexists(word):
            matches = [name for name in sorted(glob.glob(word, recursive=True)) if not _is_folder(name)]  # noqa: PTH207
            if not matches:
                raise InputError(f"{word} fits no file")
            yield from matches
        else:
            yield word


def _is_folder(word: str) -> bool:
    try:
        return Path(word).is_dir()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _lines() -> list[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):  # names need not be valid Unicode
        sys.stdin.reconfigure(errors="surrogateescape")
    return [line for line in sys.stdin.read().splitlines() if line.strip()]


def _device(name: str) -> Any:
    import torch

    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if usable[device])
    if not usable.get(name):
        here = ", ".join(device for device, there in usable.items() if there)
        raise InputError(f"--device {name}: expected auto or one that PyTorch can use here: {here}")
    return torch.device(name)


def _text_line(file: str, answer: "Prediction | InputError") -> str:
    if isinstance(answer, InputError):
        return ""
    named = ", ".join(f"{name} {share:.1%}" for name, share in answer.top)
    return printable(f"{file}: {named}") + "\n"


def _json_line(file: str, answer: "Prediction | InputError") -> str:
    if isinstance(answer, InputError):
        return json.dumps({"file": file, "error": str(answer)}) + "\n"
    top = [{"class": name, "probability": share} for name, share in answer.top]
    return json.dumps({"file": file, **top[0], "top": top}) + "\n"


def _columns(top: int, classes: int) -> list[str]:
    rest = (f"{name}_{place}" for place in range(2, min(top, classes) + 1) for name in ("class", "probability"))
    return ["file", "class", "probability", *rest, "error"]


def _cells(file: str, answer: "Prediction | InputError") -> dict[str, object]:
    cells: dict[str, object] = {"file": file}
    if isinstance(answer, InputError):
        cells["error"] = str(answer)
    else:
        for place, (name, share) in enumerate(answer.top, start=1):
            end = "" if place == 1 else f"_{place}"
            cells |= {f"class{end}": name, f"probability{end}": f"{share:.6f}"}
    return cells
