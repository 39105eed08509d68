"""Many jobs by Hydra's launchers: one after another here, on Ray, on SLURM."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mcld.engine.stop import Interrupted
from mcld.errors import InputError, explain
from mcld.plugins import load_plugin, loaded_plugins
from mcld.text import printable


def launch(job: Callable[[str], None], names: Sequence[str], words: Sequence[str], folder: str) -> dict[str, str]:
    """Run a job for each of some names; one that fails says so and does not stop the others.

    Args:
        job: gets a name, in the working directory of this process, wherever it runs.
        names: of the jobs.
        words: for Hydra itself: the launcher and its settings.
        folder: of the sweep.

    Returns:
        What went wrong, by the name of the job.

    Raises:
        InputError: for words that Hydra refuses, a launcher that is not installed among them.
    """
    here = os.getcwd()  # noqa: PTH109 (a string is what the job needs)
    plugins = [str(plugin.file) for plugin in loaded_plugins()]

    def there(config: Any) -> tuple[str, str] | None:
        os.chdir(here)
        for file in plugins:
            load_plugin(file)
        try:
            job(names[config.index])
        except Interrupted as stop:
            print(stop)
            raise SystemExit(128 + stop.signal) from stop
        except Exception as error:  # the others may work
            print(printable(f"mcld: {names[config.index]}: {explain(error)[0]}"), file=sys.stderr)
            return names[config.index], explain(error)[0]
        return None

    for word in words:
        if not is_hydras(word) or word.startswith("hydra/sweeper"):
            raise InputError(f"{word}: expected words of Hydra itself, such as hydra/launcher=ray")
    ConfigStore.instance().store(name="sweep", node={"index": 0})
    quoted = "'" + folder.replace("\\", "\\\\").replace("'", "\\'") + "'"
    own = [
        *("hydra/job_logging=disabled", "hydra/hydra_logging=disabled", "hydra.output_subdir=null"),
        *(f"hydra.sweep.dir={quoted}", "hydra.sweep.subdir=.", f"index={','.join(map(str, range(len(names))))}"),
    ]
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize(version_base="1.3", config_path=None):
            main = GlobalHydra.instance().hydra
            assert main is not None
            batches = main.multirun("sweep", there, [*own, *words], with_log_configuration=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(str(error.__cause__ or error).splitlines()[0]) from error
    return dict(result.return_value for batch in batches for result in batch if result.return_value)


def is_hydras(word: str) -> bool:
    """Whether a word is for Hydra itself."""
    return word.lstrip("+~").startswith(("hydra.", "hydra/"))
