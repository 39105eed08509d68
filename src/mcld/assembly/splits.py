"""A run on a folder without a split takes the one that its teacher was trained with: no image changes sides."""

from typing import TypeVar

from mcld.assembly.network_options import NetworkSettings
from mcld.configs.compose import settings_from_yaml
from mcld.configs.schema import RunSettings
from mcld.configs.values import with_values
from mcld.data.holdout import fraction_of
from mcld.data.options import FileOptions
from mcld.files import home_path
from mcld.runs import RunDirectory

Settings = TypeVar("Settings", bound=RunSettings)


def reuse_split(settings: Settings) -> tuple[Settings, list[str]]:
    """The settings with ``data.split`` of a run among the networks that held out a part of the same images.

    The teacher's counts before the student's.

    Returns:
        They, and a line for a person when the split was chosen so.

    Raises:
        InputError: for a run directory that cannot be read.
    """
    data = settings.data
    if not isinstance(data, FileOptions) or data.split is not None or fraction_of(data.val) in (None, 1):
        return settings, []
    for role in ("teacher", "model", "student"):
        network = getattr(settings, role, None)
        if not isinstance(network, NetworkSettings) or not RunDirectory.is_run(network.name):
            continue
        run = RunDirectory.open(network.name)
        if run.split.is_file() and _place(settings_from_yaml(run.config, "data").data) == _place(data):
            line = f"{role} {network.name} was trained on a part of these images: its split is used, not data.val"
            return with_values(settings, {"data.split": str(run.split)}), [line]
    return settings, []


def _place(data: FileOptions) -> tuple[str, str]:
    return data.name, str(home_path(str(getattr(data, "path", ""))).resolve())
