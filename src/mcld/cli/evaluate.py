"""``mcld evaluate``."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mcld.cli.main import Parser, split_words
from mcld.errors import InputError
from mcld.files import home_path

EPILOG = """\
RUN is a run directory, or the name of a model together with model.checkpoint=FILE.
FOLDER holds images to evaluate on: class folders alone, or with a split of which the validation images count.
Without it and data= a run is evaluated on the validation data that it was trained with.
Settings: data=NAME and data.KEY=VALUE, device=, threads=, precision=; for a run model.weights=last or best; for a model
model.checkpoint=FILE or model.pretrained=true, model.options.KEY=, model.mean=[...] and model.std=[...].
"""
KEYS = (
    *("device", "threads", "precision", "model.weights", "model.checkpoint", "model.pretrained"),
    *("model.mean", "model.std", "model.options"),
)


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("evaluate", "RUN [FOLDER | data=NAME] [key=value ...] [--out FOLDER] [--force]", EPILOG)
    parser.add_argument("words", nargs="*", metavar="RUN | key=value", help="a run directory or a model, then settings")
    parser.add_argument("--out", metavar="FOLDER", help="write the confusion matrix and the classes there, as CSV")
    parser.add_argument("--force", action="store_true", help="replace those that are there")
    given = parser.parse_intermixed_args(list(arguments))
    networks, settings_words = split_words(given.words, KEYS)

    from mcld.runs import RunDirectory

    said_data = any(word.startswith("data=") for word in settings_words)
    if len(networks) == 2 and not said_data and not RunDirectory.is_run(networks[1]):
        settings_words.append(f"data={_place(networks.pop())}")
    if len(networks) != 1:
        said = f"{len(networks)} networks ({' '.join(networks)})" if networks else "no network"
        raise InputError(f"{said} in the command; expected a run directory or a model: mcld evaluate RUN data=NAME")

    network = networks[0]
    if not RunDirectory.is_run(network) and not any(word.startswith("data=") for word in settings_words):
        raise InputError(f"{network} is no run directory; say what to evaluate it on: data=NAME")

    from mcld.commands.evaluate import check_out, evaluate_network, run_data, write_tables
    from mcld.configs.compose import compose
    from mcld.configs.schema import Train
    from mcld.display import Display

    words = [f"model={network}", *settings_words]
    if not any(word.startswith("data=") for word in settings_words):
        settings = compose("train", ["data=digits", *(w for w in words if not w.startswith("data."))])
        settings = replace(settings, data=run_data(network))
        if any(word.startswith("data.") for word in words):
            settings = compose("train", [f"data={settings.data.name}", *_as_words(settings.data), *words])
    else:
        settings = compose("train", words)
    assert isinstance(settings, Train)
    if not (RunDirectory.is_run(network) or settings.model.checkpoint or settings.model.pretrained):
        hint = "a run directory, or its weights: model.checkpoint=FILE or model.pretrained=true"
        raise InputError(f"{network} is no run directory and has no weights; expected {hint}")
    display, out = Display(), Path(given.out) if given.out else None
    if out is not None:
        check_out(out, force=given.force)
    found = evaluate_network(settings, display)
    for line in write_tables(found, out) if out is not None else []:
        display.line(line)
    return 0


def _place(given: str) -> str:
    """The path of images beside the network; never a data set's name, which is said with ``data=``.

    Raises:
        InputError: when there is nothing.
    """
    if not home_path(given).exists():
        raise InputError(f"{given} is not there; expected a folder of images: mcld evaluate RUN FOLDER, or data=NAME")
    return given if "/" in given else f"./{given}"


def _as_words(options: object) -> list[str]:
    return [f"data.{key}={value}" for key, value in vars(options).items() if key != "name" and value is not None]
