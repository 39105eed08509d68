"""Many jobs by Hydra's launchers: one after another here, on Ray, on SLURM."""

import datetime
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mcld.configs.compose import Command, compose
from mcld.configs.words import combinations, read, several, word_of
from mcld.engine.stop import Interrupted
from mcld.errors import InputError, explain
from mcld.plugins import load_plugin, loaded_plugins
from mcld.text import printable


def spread(command: Command, words: Sequence[str]) -> tuple[str, list[str], dict[str, list[str]]]:
    """What ``-m`` asks for: the folder of the sweep, the words for Hydra itself, and each run's words by its directory.

    Raises:
        InputError: for a word that cannot be right in one of the runs, several folders or several devices.
    """
    texts = read(word for word in words if not is_hydras(word))
    folder = run = texts.pop("run", "null").strip("'\"")
    if folder in ("", "null"):
        folder = f"runs/sweep-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    if len(several("run", run)) > 1 or "${" in run:
        raise InputError(f"run={run}: expected one folder, in which every run gets its own")
    swept = {key for key, text in texts.items() if len(several(key, text)) > 1}
    jobs: dict[str, list[str]] = {}
    for job in combinations(texts):
        own = sorted(word for word, key in zip(job, texts, strict=True) if key in swept)
        place = f"{folder}/{','.join(own).replace('/', '_').replace(chr(39), '') or 'run'}"
        jobs[place] = [*job, word_of("run", place)]
        settings = compose(command, jobs[place])  # a mistake in the last shows before the first has run
        if settings.devices > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
            raise InputError("-m runs on one device after another run; for several devices start the runs one by one")
    return folder, [word for word in words if is_hydras(word)], jobs


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
