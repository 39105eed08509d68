"""Many jobs by Hydra's launchers: one after another here, on Ray, on SLURM."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig
from omegaconf.errors import OmegaConfBaseException

from mcld.errors import InputError
from mcld.plugins import load_plugin, loaded_plugins


@dataclass
class _Jobs:
    """What Hydra knows of a sweep: the names of its jobs, and which of them one job is."""

    jobs: list[str] = field(default_factory=list)
    index: int = MISSING


def launch(job: Callable[[str], str], names: Sequence[str], words: Sequence[str], folder: str) -> list[str]:
    """Run a job for each of some names.

    Args:
        job: gets a name, in the working directory of this process, wherever it runs; returns what it has to say when
            it failed, else nothing.
        names: of the jobs.
        words: for Hydra itself: the launcher and its settings.
        folder: of the sweep.

    Returns:
        What the jobs that failed had to say.

    Raises:
        InputError: for words that Hydra refuses, a launcher that is not installed among them.
    """
    here = os.getcwd()  # noqa: PTH109 (a string is what the job needs)
    plugins = [str(plugin.file) for plugin in loaded_plugins()]

    def there(config: DictConfig) -> str:
        os.chdir(here)
        for file in plugins:
            load_plugin(file)
        return job(config.jobs[config.index])

    for word in words:
        if not is_hydras(word) or word.startswith("hydra/sweeper"):
            raise InputError(f"{word}: expected words of Hydra itself, such as hydra/launcher=ray")
    ConfigStore.instance().store(name="sweep", node=_Jobs(jobs=list(names)))
    quoted = "'" + folder.replace("\\", "\\\\").replace("'", "\\'") + "'"
    own = [
        *("hydra/job_logging=disabled", "hydra/hydra_logging=disabled", "hydra.output_subdir=null"),
        *(f"hydra.sweep.dir={quoted}", "hydra.sweep.subdir=."),
    ]
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize(version_base="1.3", config_path=None):
            main = GlobalHydra.instance().hydra
            assert main is not None
            index = f"index={','.join(map(str, range(len(names))))}"
            batches = main.multirun("sweep", there, [*own, *words, index], with_log_configuration=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(str(error.__cause__ or error).splitlines()[0]) from error
    return [result.return_value for batch in batches for result in batch if result.return_value]


def is_hydras(word: str) -> bool:
    """Whether a word is for Hydra itself."""
    return word.lstrip("+~").startswith(("hydra.", "hydra/"))
