"""``mcld data``."""

from collections.abc import Sequence

from mcld.cli.main import Parser
from mcld.cli.methods import described, options_table


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("data", "[NAME]")
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this data set's options")
    given = parser.parse_args(list(arguments))

    from mcld.checks import check_names
    from mcld.data import list_data

    entries = {entry.name: entry for entry in list_data()}
    if given.name is None:
        width = max(map(len, entries))
        for entry in entries.values():
            print(f"{entry.name:<{width}}  {entry.title} ({entry.needs})")
        return 0
    check_names("data set", [given.name], entries)
    entry = entries[given.name]
    print(f"{entry.name}: {entry.title} ({entry.needs})\n")
    print(described(entry.options)[0])
    print("\noptions, with their defaults and what they may be:")
    for line in options_table(entry.options(), entry.options, "data."):
        print(line)
    return 0
