"""``mcld resume``."""

from collections.abc import Sequence

from mcld.cli.main import Parser


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("resume", "RUN")
    parser.add_argument("run", metavar="RUN", help="the run directory")
    given = parser.parse_args(list(arguments))

    from mcld.commands.run import resume
    from mcld.engine.stop import Interrupted

    try:
        resume(given.run)
    except Interrupted as stop:
        print(stop)
        return 128 + stop.signal
    return 0
