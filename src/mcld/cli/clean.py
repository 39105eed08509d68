"""``mcld clean``."""

from collections.abc import Sequence

from mcld.cli.main import Parser

EPILOG = """\
Deletes the checkpoints of finished runs, which are for mcld resume alone. Weights, summary, report, log and exports
stay: evaluate, predict, export, report and distil work as before.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("clean", "RUN [RUN ...] [--dry-run]", EPILOG)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run directory")
    parser.add_argument("--dry-run", action="store_true", help="say what would be deleted")
    given = parser.parse_args(list(arguments))

    from mcld.commands.clean import clean
    from mcld.data.room import in_words
    from mcld.display import plain_console
    from mcld.text import printable

    console = plain_console()
    for path, size in clean(given.runs, dry_run=given.dry_run).items():
        verb = "would give back" if given.dry_run else "gave back"
        console.print(printable(f"{path}: {verb} {in_words(size)}" if size else f"{path}: nothing to delete"))
    return 0
