"""TensorBoard."""

import shutil
from typing import TYPE_CHECKING

from mcld.loggers._base import Logger, Logs, Row
from mcld.registry import register_logger

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@register_logger("tensorboard")
class TensorBoard(Logger):
    """Curves for TensorBoard, in the run directory: ``tensorboard --logdir runs``.

    They are written anew from the state of a run when it goes on, so they neither lose nor double a point.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.writer: SummaryWriter | None = None

    def start(self, logs: Logs) -> None:
        """See :meth:`Logger.start`."""
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(logs.folder, ignore_errors=True)
        self.writer = SummaryWriter(str(logs.folder))
        for row in logs.history:
            self.log(row)

    def log(self, row: Row) -> None:
        """See :meth:`Logger.log`."""
        assert self.writer is not None
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, int(row["epoch"]))
        self.writer.flush()

    def finish(self, *, complete: bool) -> None:
        """See :meth:`Logger.finish`."""
        if self.writer is not None:
            self.writer.close()
