"""Many jobs as one Hydra sweep, by whatever launcher is asked for: one after another here, on Ray, on SLURM."""

import os
from collections.abc import Callable, Sequence

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mcld.configs.compose import quote_path
from mcld.errors import InputError

Job = Callable[[DictConfig], str]


def multirun(config: str, job: Job, words: Sequence[str], folder: str) -> list[str]:
    """Run a job for every combination of values.

    Args:
        config: the name of the configuration, as registered with Hydra.
        job: gets one combination, in the working directory of this process, wherever it runs; returns what it has to
            say when it failed, else nothing.
        words: overrides in Hydra's grammar, those of Hydra itself included.
        folder: of the sweep.

    Returns:
        What the jobs that failed had to say.

    Raises:
        InputError: for words that Hydra refuses, a launcher that is not installed among them.
    """
    here = os.getcwd()  # noqa: PTH109 (a string is what the job needs)

    def there(config: DictConfig) -> str:
        os.chdir(here)
        return job(config)

    own = [
        *("hydra/job_logging=disabled", "hydra/hydra_logging=disabled", "hydra.output_subdir=null"),
        *(f"hydra.sweep.dir={quote_path(folder)}", "hydra.sweep.subdir=."),
    ]
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize(version_base="1.3", config_path=None):
            main = GlobalHydra.instance().hydra
            assert main is not None
            batches = main.multirun(config, there, [*own, *words], with_log_configuration=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(str(error.__cause__ or error).splitlines()[0]) from error
    return [result.return_value for batch in batches for result in batch if result.return_value]
