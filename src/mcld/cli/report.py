"""``mcld report``."""

from collections.abc import Sequence
from pathlib import Path

from mcld.cli.main import Parser
from mcld.text import printable

EPILOG = """\
One run is shown in full, in report.html in its run directory. Several are compared, the first with the others; say
where the page goes: --out PAGE.html. Figures are also written as files, into figures/ beside the page.

example:
  mcld report runs/small
  mcld report runs/small runs/alone --out comparison.html
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("report", "RUN [RUN ...] [--out PAGE.html] [--force]", EPILOG)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run directory of a finished run")
    parser.add_argument("--out", metavar="FILE", help="the page; by default report.html in the run directory")
    parser.add_argument("--force", action="store_true", help="replace a page that is there")
    given = parser.parse_args(list(arguments))

    from mcld.commands.report import report_runs

    out = Path(given.out) if given.out else None
    page = report_runs(given.runs, out, force=given.force, tell=lambda line: print(printable(line)))
    print(printable(f"the report: {page}"))
    return 0
