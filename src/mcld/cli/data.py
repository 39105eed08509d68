"""``mcld data``."""

from collections.abc import Sequence

from mcld.cli.main import Parser
from mcld.cli.methods import described, options_table, say_broken
from mcld.registry import DATA


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("data", "[NAME]")
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this data set's options")
    given = parser.parse_args(list(arguments))

    from mcld.data import list_data

    if given.name is None:
        entries = list_data()
        width = max(len(entry.name) for entry in entries)
        for entry in entries:
            print(f"{entry.name:<{width}}  {entry.title} ({entry.needs})")
        say_broken(DATA)
        return 0
    entry = DATA.get(given.name)
    print(f"{entry.name}: {entry.title} ({entry.needs})\n")
    print(described(entry.options)[0])
    print("\noptions, with their defaults and what they may be:")
    for line in options_table(entry.make_options(), entry.options, "data."):
        print(line)
    return 0
