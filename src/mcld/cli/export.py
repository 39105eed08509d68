"""``mcld export``."""

from collections.abc import Sequence
from pathlib import Path

from mcld.cli.main import Parser
from mcld.text import printable

EPILOG = """\
layouts:
  repdistiller  one file {"model": state dict} of torch.save, as RepDistiller, mdistiller and their descendants load
                their CIFAR networks: model_dict[NAME](num_classes=C).load_state_dict(torch.load(FILE)["model"]).
                For the networks that they have; no others exist there.
  plain         a folder with model.safetensors (the state dict) and model.json (architecture, classes, normalisation)

These networks do not normalise: give them images scaled to 0..1, minus the mean, divided by the std that are printed.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("export", "RUN --layout repdistiller|plain [--weights last|best] [--out PATH] [--force]", EPILOG)
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--layout", required=True, metavar="NAME", help="repdistiller or plain; see below")
    parser.add_argument("--weights", default="last", metavar="WHICH", help="last or best (default: last)")
    parser.add_argument("--out", metavar="PATH", help="where to write (default: beside the run)")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    given = parser.parse_args(list(arguments))

    from mcld.assembly.networks import load_run, unfinished, weights_line
    from mcld.models.export import export_network

    network = load_run(given.run, given.weights)
    for line in [weights_line(given.run, given.weights), *unfinished(given.run)]:
        print(printable(line))
    default = Path(given.run).resolve()
    out = Path(given.out) if given.out else default.with_name(f"{default.name}-{given.weights}")
    for line in export_network(network, given.layout, out, named=given.out is not None, force=given.force):
        print(printable(line))
    return 0
