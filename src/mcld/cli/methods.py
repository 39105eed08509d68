"""``mcld methods``."""

import dataclasses
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from mcld.cli.main import Parser
from mcld.registry import Registry

WIDTH = 118  # of what is printed, in characters


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("methods", "[NAME]")
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this method's formula and options")
    given = parser.parse_args(list(arguments))

    from mcld.registry import METHODS

    if given.name is not None and given.name not in METHODS.names():  # said before anything big is imported
        raise METHODS.unknown(given.name)

    from mcld.methods import method_class

    if given.name is None:
        rows = [("name", "family", "needs", "year", "what it does", "paper")]
        for name, cls in METHODS.items().items():
            needs = ",".join(sorted(cls.needs)) or "labels"
            rows.append((name, cls.family or "-", needs, str(cls.year or "-"), cls.title, cls.paper or "-"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
        say_broken(METHODS)
        return 0

    from mcld.configs.options import method_options

    cls = method_class(given.name)
    options = method_options(given.name)()
    print(described(cls)[0])
    print()
    print(f"paper: {cls.paper or '-'}")
    print(f"family: {cls.family or '-'}")
    print(f"reads: {', '.join(sorted(cls.needs)) or 'labels only'}")
    strong = f", the second with data.second_policy={cls.second_policy}" if cls.second_policy else ""
    print(f"views of each image: {cls.views}{strong}")
    print(f"cross-entropy weight: {cls.ce_weight:g} (ce_weight)")
    table = options_table(options, cls, "method.")
    print("options, with their defaults and what they may be:" if table else "options: none")
    for line in table:
        print(line)
    if cls.presets:
        print("presets, as words for the command line:")
        width = max(map(len, cls.presets))
        for name, preset in cls.presets.items():
            words = preset_words(preset, "method.")
            if name in cls.preset_ce_weights:
                words.append(f"ce_weight={cls.preset_ce_weights[name]}")
            print(f"  {name:<{width}}  {' '.join(words) or '(the defaults)'}")
    return 0


def say_broken(registry: Registry[Any]) -> None:
    """Say on the error stream what other packages should have brought and did not."""
    for line in registry.broken():
        print(f"mcld: left out: {line}", file=sys.stderr)


def described(cls: type) -> tuple[str, dict[str, str]]:
    """A class's docstring without its sections and its markup, and what it says of each option."""
    text, _, rest = inspect.cleandoc(cls.__doc__ or "").partition("\nArgs:\n")
    if not rest:
        text, _, rest = text.partition("\nAttributes:\n")
    text, rest = (re.sub(r":\w+:`([^`]*)`", r"\1", part).replace("``", "") for part in (text, rest))
    meanings: dict[str, str] = {}
    for line in itertools.takewhile(lambda line: line.startswith(" ") or not line, rest.splitlines()):
        if found := re.match(r" {4}(\w+): (.*)", line):
            name, meanings[found[1]] = found[1], found[2]
        elif line.strip():
            meanings[name] += f" {line.strip()}"
    return re.split(r"\n(?:Raises|Example):\n", text)[0].strip(), meanings


def preset_words(preset: Mapping[str, Any], prefix: str) -> list[str]:
    """``key=value`` of everything that a preset sets."""
    words = []
    for key, value in preset.items():
        if isinstance(value, Mapping):
            words += preset_words(value, f"{prefix}{key}.")
        else:
            words.append(f"{prefix}{key}={_word(value)}")
    return words


def options_table(options: Any, cls: type, prefix: str) -> list[str]:
    """Lines with ``key=default`` of every option, nested ones included, and beside it what the option means."""
    rows = option_rows(options, cls, prefix)
    indent = max((len(word) for word, _ in rows), default=0) + 4
    lines = []
    for word, meaning in rows:
        lines += textwrap.wrap(f"  {word:<{indent - 4}}  {meaning}", WIDTH, subsequent_indent=" " * indent)
    return lines


def option_rows(
    options: Any, cls: type | None = None, prefix: str = "", *, heads: bool = False
) -> list[tuple[str, str]]:
    """(``key=default``, what it means) of every option, nested ones included.

    Args:
        options: a dataclass with the defaults.
        cls: the class whose docstring explains them; by default that of the options.
        prefix: of the keys.
        heads: give each group of options a row of its own, with the first line about it.
    """
    bases = reversed((cls or type(options)).__mro__)
    meanings = {name: meaning for base in bases for name, meaning in described(base)[1].items()}
    rows: list[tuple[str, str]] = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            if heads:
                rows.append((f"{prefix}{field.name}", described(type(value))[0].partition("\n")[0]))
            rows += option_rows(value, prefix=f"{prefix}{field.name}.", heads=heads)
        elif field.name != "name" or heads:
            rows.append((f"{prefix}{field.name}={_word(value)}", meanings.get(field.name, "")))
    return rows


def _word(value: object) -> str:
    """A value as the command line takes it."""
    if value is None or value == "???":
        return "null" if value is None else ""
    return str(value).lower() if isinstance(value, bool) else str(value)
