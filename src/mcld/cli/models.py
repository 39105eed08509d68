"""``mcld models``."""

import contextlib
from collections.abc import Sequence
from typing import Any

from mcld.cli.main import Parser
from mcld.cli.methods import say_broken
from mcld.errors import InputError
from mcld.registry import MODELS


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("models", "[NAME ...] [--classes C] [--size PIXELS]")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these; also timm/NAME and torchvision/NAME")
    parser.add_argument("--classes", type=int, default=100, metavar="C", help="number of classes (default: 100)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="side of the images (default: each model's own)")
    given = parser.parse_args(list(arguments))
    for name, value in (("--classes", given.classes), ("--size", given.size)):
        if value is not None and value < 1:
            raise InputError(f"{name} {value}; expected at least 1")

    from rich.console import Console
    from rich.table import Table

    from mcld.models import list_models

    entries = [_row(name, given.classes, given.size) for name in given.names or [e.name for e in list_models()]]
    table = Table("name", "also", "family", box=None, pad_edge=False)
    for title in ("parameters", "MMACs", "pixels", "lr"):
        table.add_column(title, justify="right")
    for row, _ in entries:
        table.add_row(*row)
    console = Console(width=None if Console().is_terminal else 140)
    console.print(table)
    for name, (_, options) in zip(given.names, entries, strict=False):
        if options:
            words = " ".join(f"{key}={value}" for key, value in options.items())
            print(f"{name} is fitted to the images: {words}")
    if not given.names:
        say_broken(MODELS)
        print("besides: timm/NAME and torchvision/NAME, any classifier of these libraries")
    return 0


def _row(name: str, classes: int, size: int | None) -> tuple[list[str], dict[str, Any]]:
    """The cells of a model, and the options that fit it to the images."""
    import torch

    from mcld.evaluation.cost import count_macs, count_parameters
    from mcld.models import create_model, default_lr, find_model, fitting_options

    if "/" in name:
        also, family, least = "", name.partition("/")[0], 1
        size = size or 224
    else:
        entry = find_model(name)
        name, also, family, least = entry.name, ", ".join(entry.aliases), entry.family, entry.min_size
        size = size or entry.input_size
    options = fitting_options(name, (size, size), {})
    with torch.device("meta") if "/" not in name else contextlib.nullcontext():  # sizes need no numbers
        model = create_model(name, num_classes=classes, **options)
    if any(parameter.is_meta for parameter in model.parameters()):
        model.to_empty(device="cpu")  # on the meta device each operation is computed in Python, forty times as slowly
    macs = f"{count_macs(model, (3, size, size)) / 1e6:,.1f}" if size >= least else "-"
    return [name, also, family, f"{count_parameters(model):,}", macs, str(size), f"{default_lr(name):g}"], options
