"""``mcld transfer``."""

from collections.abc import Sequence

from mcld.cli.main import Parser, split_words
from mcld.errors import InputError

EPILOG = """\
The networks are frozen, and a linear classifier learns from their pooled features. Two protocols:
  probe  features computed once; logistic regression whose regularisation is chosen on a part of the training data,
         and k nearest neighbours
  sgd    what the field publishes: 120 epochs of SGD on augmented images, ÷10 after 30, 60 and 90, images of 32 px

Settings: data=NAME and data.KEY=VALUE (data.image_size by default as the runs have it, 32 where they differ), run=DIR
for the result, seed=, device=, threads=, and model.weights=last or best.
"""
KEYS = ("run", "seed", "device", "threads", "model.weights")


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    usage = "RUN [RUN ...] data=NAME [key=value ...] [--protocol probe|sgd|both] [--untrained] [--force]"
    parser = Parser("transfer", usage, EPILOG)
    parser.add_argument("words", nargs="*", metavar="RUN | key=value", help="run directories, then settings")
    parser.add_argument("--protocol", default="both", metavar="NAME", help="probe, sgd or both (default: both)")
    parser.add_argument("--untrained", action="store_true", help="also the same networks with their first weights")
    parser.add_argument("--force", action="store_true", help="replace an earlier result")
    given = parser.parse_intermixed_args(list(arguments))
    protocols = {"probe": ("probe",), "sgd": ("sgd",), "both": ("probe", "sgd")}
    if given.protocol not in protocols:
        raise InputError(f"--protocol {given.protocol}: there is no such protocol; expected probe, sgd or both")
    runs, words = split_words(given.words, KEYS)
    if not runs:
        raise InputError("there is no run directory; expected mcld transfer RUN data=NAME")
    if len(set(runs)) < len(runs):
        raise InputError(f"a run is named twice: {' '.join(runs)}")

    from mcld.assembly.sizes import common_size
    from mcld.commands.transfer import transfer
    from mcld.configs.compose import compose
    from mcld.configs.schema import Train
    from mcld.configs.values import with_values

    settings = compose("train", ["model=none", *words])
    if hasattr(settings.data, "image_size") and not any(word.startswith("data.image_size=") for word in words):
        settings = with_values(settings, {"data.image_size": common_size(runs) or 32})
    assert isinstance(settings, Train)
    transfer(runs, settings, protocols=protocols[given.protocol], untrained=given.untrained, force=given.force)
    return 0
