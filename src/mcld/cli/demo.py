"""``mcld demo``."""

from collections.abc import Sequence

from mcld.cli.main import Parser
from mcld.errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("demo", "[--run DIR] [--seeds N]")
    parser.add_argument("--run", metavar="DIR", help="where to write (default: runs/demo-DATE)")
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="repetitions with other seeds (default: 2)")
    given = parser.parse_args(list(arguments))
    if given.seeds < 1:
        raise InputError(f"--seeds {given.seeds}; expected at least 1")

    from mcld.commands.demo import run_demo
    from mcld.engine.stop import Interrupted

    try:
        run_demo(given.run, given.seeds)
    except Interrupted as stop:
        print("the demo was stopped; what it has done so far is in its directory")
        return 128 + stop.signal
    return 0
