"""``mcld published``."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mcld.cli.main import Parser
from mcld.errors import unknown_name

if TYPE_CHECKING:
    from mcld.configs.published import Row

EPILOG = """\
Each row is a recipe with the numbers that were reported for it: mcld distill published=ID teacher=RUN, or
mcld train published=ID. The first number is the one of the recipe's own source. Protocols differ: the best epoch on
the test images is 0.3 points above the last one on average.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("published", "[ID] [--pair TEACHER-STUDENT] [--method NAME] [--data NAME] [--all]", EPILOG)
    parser.add_argument("id", nargs="?", metavar="ID", help="show one row and its settings")
    parser.add_argument("--pair", metavar="TEACHER-STUDENT", help="rows of this pair, or of one network")
    parser.add_argument("--method", metavar="NAME", help="rows of this method")
    parser.add_argument("--data", metavar="NAME", help="rows on this data set")
    parser.add_argument("--all", action="store_true", help="also rows of methods that are not here (yet)")
    given = parser.parse_args(list(arguments))

    from mcld.configs.published import absent, find_row, published_rows

    rows = list(published_rows())
    if given.id is not None:
        rows = [find_row(given.id)]
    rows = _filter("--data", given.data, rows, lambda row: [row.data])
    rows = _filter("--pair", given.pair, rows, _networks)
    rows = _filter("--method", given.method, rows, lambda row: [row.method, row.title, row.id.split("/")[-1]])

    reasons = {row.id: absent(row) for row in rows}
    shown = [row for row in rows if given.all or given.id or not reasons[row.id]]
    for row in shown:
        for line in describe(row, reasons[row.id]):
            print(line)
    if given.id:
        command = f"mcld {rows[0].command} published={rows[0].id}"
        print(f"\n{command}{' teacher=RUN' if rows[0].teacher else ''} is short for:")
        print("\n".join(f"  {word}" for word in rows[0].words))
        return 0
    left = len(rows) - len(shown)
    print(f"\n{len(shown)} rows" + (f"; {left} more are of methods that are not here (yet): --all" if left else ""))
    return 0


def describe(row: "Row", reason: str) -> list[str]:
    """The lines about one row."""
    reported = [
        f"{'' if place else row.id:<46}  {number.top1:5.2f}  {number.protocol} ({number.source})"
        for place, number in enumerate(row.numbers)
    ]
    options = [f"{key} {f'{value:g}' if isinstance(value, float) else value}" for key, value in row.options.items()]
    if row.teacher and not options:
        options.append("the method's defaults")
    if row.ce_weight is not None:
        options.append(f"cross-entropy {row.ce_weight:g}")
    recipe = row.recipe
    optimizer = "" if recipe.optimizer == "sgd" else f", optimizer {recipe.optimizer}"
    lines = [
        *(reported or [f"{row.id:<46}      -"]),
        f"    {row.title}: {', '.join([*options, ''])}{recipe.epochs} epochs, "
        f"{'1 view' if row.views == 1 else '2 views, weak and strong'}, batch {recipe.batch_size}, "
        f"lr {recipe.lr:g} {recipe.schedule}, weight decay {recipe.weight_decay:g}{optimizer}",
    ]
    if row.note:
        lines.append(f"    note: {row.note}")
    if reason:
        lines.append(f"    cannot be run: {reason}")
    return lines


def _networks(row: "Row") -> list[str]:
    return [row.pair, row.student.split("/")[-1], *([row.teacher.split("/")[-1]] if row.teacher else [])]


def _filter(option: str, wanted: str | None, rows: "list[Row]", names: "Callable[[Row], list[str]]") -> "list[Row]":
    if wanted is None:
        return rows
    known = {name.lower(): name for row in rows for name in names(row)}
    if wanted.lower() not in known:
        more = f"expected one of {', '.join(list(known.values())[:30])}"
        raise unknown_name(f"row with {option}", wanted, known.values(), more=more, most=3)
    return [row for row in rows if wanted.lower() in [name.lower() for name in names(row)]]
