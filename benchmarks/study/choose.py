"""The best setting of each method's grid, by the validation images, as entries of another suite.

    python benchmarks/study/choose.py benchmarks/study/c-rivals-grid.yaml benchmarks/study/c-rivals-grid-gpu.yaml

Entries named ``METHOD: ...`` or ``METHOD, ...`` are settings of METHOD, the published one is named ``METHOD``. Of each
method, prints the one with the highest top-1 after the last epoch on the validation images (the earlier one of equals)
as a line ``METHOD tuned: WORDS`` for the ``methods`` of a suite file, and as a comment which it is and of how many;
where that is the published one, only the comment. The test images are not looked at.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mcld.bench.suite import Cell, merge_words
from mcld.bench.suite_file import read_suite
from mcld.errors import InputError


@dataclass
class Best:
    """The best setting of a method so far, and of how many."""

    cell: Cell
    words: list[str]
    top1: float
    tried: int = 1


def best_settings(suite: str) -> dict[str, Best]:
    """Of each method the best of its finished cells, in the order of the suite."""
    read = read_suite(suite)
    found: dict[str, Best] = {}
    for cell in read.cells():
        results = cell.results()
        if results is None:
            continue
        name, top1 = re.split(r"[,:]", cell.method)[0], float(results.summary["last"]["top1"])
        new = Best(cell, merge_words(read.methods[cell.method].words), top1)
        if name in found:
            new.tried = found[name].tried = found[name].tried + 1
        if name not in found or top1 > found[name].top1:
            found[name] = new
    return found


def entries(chosen: dict[str, Best]) -> Sequence[str]:
    """Lines for a suite file."""
    lines = []
    for name, best in chosen.items():
        lines.append(f"  # of {best.tried}: {best.cell.method}, {best.top1:.2%} on the validation images")
        if best.cell.method != name:
            lines.append(f"  {name} tuned: {json.dumps(' '.join(best.words))}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", metavar="SUITE", nargs="+")
    try:
        for suite in parser.parse_args().suites:
            print("\n".join(entries(best_settings(suite))))
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
