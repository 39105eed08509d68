"""Weights & Biases."""

import os
import uuid
from typing import Annotated, Any

from mcld.loggers._base import Logger, Logs, Row
from mcld.loggers._remembered import Remembered
from mcld.options import one_of
from mcld.registry import register_logger


@register_logger("wandb")
class WandB(Logger):
    """Weights & Biases: the settings of the run, and a point of each curve per epoch.

    A run that goes on is the same run there.

    Args:
        project: there.
        entity: a user or team; by default the account's own.
        mode: ``online`` (as the account that ``wandb login`` has set up), or ``offline``, without a network: files in
            the run directory, for ``wandb sync`` later. By default what the variable WANDB_MODE says, else offline.
    """

    needs = "wandb"
    extra = "mcld[wandb]"

    project: str = "mcld"
    entity: str | None = None
    mode: Annotated[str, one_of("online", "offline")] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.run: Any = None
        self.kept: Remembered | None = None

    def start(self, logs: Logs) -> None:
        """See :meth:`Logger.start`."""
        import wandb

        logs.folder.mkdir(parents=True, exist_ok=True)
        self.kept = Remembered(logs.folder)
        id = self.kept.id or uuid.uuid4().hex[:12]
        self.run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=logs.run.name,
            id=id,
            resume="allow",
            dir=str(logs.folder),
            mode=self.mode or os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]  # it says so itself
            config=dict(logs.settings),
            settings=wandb.Settings(console="off", silent=True),
        )
        self.kept.write(id, self.kept.epochs)
        for row in logs.history[self.kept.epochs :]:
            self.log(row)

    def log(self, row: Row) -> None:
        """See :meth:`Logger.log`."""
        assert self.kept is not None
        self.run.log(dict(row), step=int(row["epoch"]))
        self.kept.write(self.kept.id, int(row["epoch"]))

    def finish(self, *, complete: bool) -> None:
        """See :meth:`Logger.finish`."""
        if self.run is not None:
            self.run.finish(exit_code=0 if complete else 1)
