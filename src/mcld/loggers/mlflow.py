"""MLflow."""

import os
from typing import Any

from mcld.loggers._base import Logger, Logs, Row
from mcld.loggers._remembered import Remembered
from mcld.registry import register_logger

LONGEST = 500  # characters of a parameter on every server


@register_logger("mlflow")
class MLflow(Logger):
    """MLflow: the settings of the run as parameters, and a point of each curve per epoch.

    A run that goes on is the same run there.

    Args:
        uri: of the server, or a folder; by default what the variable MLFLOW_TRACKING_URI says, else a folder in the run
            directory, without a network: ``mlflow ui --backend-store-uri RUN/logs/mlflow/store``.
        experiment: there.
    """

    needs = "mlflow"
    extra = "mcld[mlflow]"

    uri: str | None = None
    experiment: str = "mcld"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.client: Any = None
        self.kept: Remembered | None = None

    def start(self, logs: Logs) -> None:
        """See :meth:`Logger.start`."""
        if not (self.uri or os.environ.get("MLFLOW_TRACKING_URI")):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # version 3 asks for that before it writes files
        from mlflow.tracking import MlflowClient

        place = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or (logs.folder / "store").absolute().as_uri()
        self.client = MlflowClient(place)
        self.kept = Remembered(logs.folder)
        id = self.kept.id
        if id:
            self.client.update_run(id, status="RUNNING")
        else:
            found = self.client.get_experiment_by_name(self.experiment)
            experiment = self.client.create_experiment(self.experiment) if found is None else found.experiment_id
            id = self.client.create_run(experiment, run_name=logs.run.name).info.run_id
            for key, value in logs.settings.items():
                self.client.log_param(id, key, str(value)[:LONGEST])
        self.kept.write(id, self.kept.epochs)
        for row in logs.history[self.kept.epochs :]:
            self.log(row)

    def log(self, row: Row) -> None:
        """See :meth:`Logger.log`."""
        assert self.kept is not None
        for name, value in row.items():
            if name != "epoch":
                self.client.log_metric(self.kept.id, name, value, step=int(row["epoch"]))
        self.kept.write(self.kept.id, int(row["epoch"]))

    def finish(self, *, complete: bool) -> None:
        """See :meth:`Logger.finish`."""
        if self.kept is not None and self.kept.id:
            self.client.set_terminated(self.kept.id, status="FINISHED" if complete else "KILLED")
