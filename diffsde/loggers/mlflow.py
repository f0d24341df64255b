"""MLflow: a database beside the runs, or a tracking server."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any, ClassVar

from diffsde.loggers.logger import LoggedStep, Logger, Outcome, Session, flat_config, remember, remembered, run_title
from diffsde.types import choice

BATCH = 100  # metrics or parameters a request; servers take 1000 and 100
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# The recorder tries again by itself, and must not hold up training for the minutes that MLflow would wait;
# nor does a run report to MLflow's makers.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MLflowRun(Session):
    """A run whose id and tracking URI are kept in <run folder>/mlflow.json; one that goes on asks for its last step."""

    def __init__(self, logger: MLflow, folder: Path, config: dict[str, Any]) -> None:
        for key, value in SETTINGS.items():
            os.environ.setdefault(key, value)
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # the making of a database is twenty lines
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric, self._last = Metric, -1
        kept = folder / "mlflow.json"
        known = remembered(kept)
        uri, artifacts = (known["tracking_uri"], None) if known else _store(logger.tracking_uri)
        self._client = MlflowClient(tracking_uri=uri)
        if known:
            self._id = str(known["run_id"])
            for key in self._client.get_run(self._id).data.metrics:
                history = self._client.get_metric_history(self._id, key)
                self._last = max([self._last, *(entry.step for entry in history)])
            self._client.update_run(self._id, status="RUNNING")
        else:
            experiment = _experiment(self._client, logger.experiment, artifacts)
            made = self._client.create_run(experiment, run_name=run_title(config), tags={"folder": str(folder)})
            self._id = made.info.run_id
            params = [
                Param(key, value if isinstance(value, str) else json.dumps(value))
                for key, value in flat_config(config).items()
            ]
            for i in range(0, len(params), BATCH):
                self._client.log_batch(self._id, params=params[i : i + BATCH])
            remember(kept, {"tracking_uri": uri, "run_id": self._id})
        self.about = uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"

    def take(self, lines: list[LoggedStep]) -> None:
        self._send([line for line in lines if line.step > self._last])

    def _send(self, lines: list[LoggedStep]) -> None:
        metrics = [
            self._metric(key, value, int(1000 * line.time), line.step)
            for line in lines
            for key, value in line.values.items()
        ]
        for i in range(0, len(metrics), BATCH):
            self._client.log_batch(self._id, metrics=metrics[i : i + BATCH])

    def finish(self, step: int, figures: dict[str, float], pictures: list[Path]) -> None:
        self._send([LoggedStep(time.time(), step, figures)])
        for path in pictures:
            self._client.log_artifact(self._id, str(path), "plots")

    def close(self, outcome: Outcome) -> None:
        self._client.set_terminated(self._id, status=STATUS[outcome])


def _store(tracking_uri: str | None) -> tuple[str, str | None]:
    """The tracking URI, and where the pictures go if it is not for the server to say."""
    if given := tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"):
        return given, None
    folder = Path("outputs", "mlflow").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()


def _experiment(client: Any, name: str, artifacts: str | None) -> str:
    """The id of an experiment, made where there is none."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        with contextlib.suppress(MlflowException):  # another run may have made it since
            return client.create_experiment(name, artifact_location=artifacts)
        found = client.get_experiment_by_name(name)
    return found.experiment_id


@choice
class MLflow(Logger):
    """mlflow: a run of `experiment` at `tracking_uri`; null: $MLFLOW_TRACKING_URI, or a database in outputs/mlflow."""

    extra: ClassVar[str] = "mlflow"
    modules: ClassVar[tuple[str, ...]] = ("mlflow", "sqlalchemy", "alembic")

    experiment: str = "diffsde"
    tracking_uri: str | None = None

    def begin(self, folder: Path, config: dict[str, Any], begin_step: int) -> Session:
        return MLflowRun(self, folder, config)
