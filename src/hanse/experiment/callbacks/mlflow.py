"""MLflow: a run of an MLflow experiment, with the settings as parameters and metrics by round."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hanse.errors import ConfigError
from hanse.experiment.callbacks import Begun, settings_of
from hanse.experiment.results import Result

_LONGEST = 6000  # characters of a parameter, which MLflow takes


class MLflow:
    """Tells an MLflow server, or writes its folder. Of MLflow's own state (active runs, its default tracking address)
    nothing is used or changed.

    Args:
        tracking_uri: ``https://mlflow.example``, or ``sqlite:///runs.db`` where all of MLflow is installed. Folders
            (``file:///folder``) are taken by MLflow 3 where MLFLOW_ALLOW_FILE_STORE is ``true``.
        experiment: of MLflow; made where it is not there.
        model: whether the result is kept there too, as the file that :func:`hanse.load_result` reads.
    """

    def __init__(self, tracking_uri: str, experiment: str = "hanse", model: bool = False) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise ConfigError("MLflow needs its package: pip install 'hanse[mlflow]'") from None
        self._client: Any = MlflowClient(tracking_uri)
        self._experiment, self._model = experiment, model
        self._run = ""

    def began(self, run: Begun) -> None:
        """Makes the run; its parameters are the settings."""
        from mlflow.entities import Param

        known = self._client.get_experiment_by_name(self._experiment)
        where = known.experiment_id if known else self._client.create_experiment(self._experiment)
        made = self._client.create_run(where, tags={"hanse.run": run.run_id}, run_name=run.title)
        self._run = made.info.run_id
        params = [Param(name, str(value)[:_LONGEST]) for name, value in settings_of(run).items()]
        for low in range(0, len(params), 100):  # the most that MLflow takes at once
            self._client.log_batch(self._run, params=params[low : low + 100])

    def measured(self, round: int, metrics: Mapping[str, float]) -> None:
        """A metric of each at the round."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(name, v, now, round) for name, v in metrics.items()])

    def ended(self, state: str, reason: str, result: Result | None) -> None:
        """Ends the run; what Hanse calls it and why stand in its tags."""
        self._client.set_tag(self._run, "hanse.state", state)
        self._client.set_tag(self._run, "hanse.reason", reason[:_LONGEST])
        if result is not None and self._model:
            with tempfile.TemporaryDirectory() as folder:
                self._client.log_artifact(self._run, str(result.save(Path(folder) / "result.safetensors")))
        ended = {"completed": "FINISHED", "left": "KILLED"}.get(state, "FAILED")
        self._client.set_terminated(self._run, ended)
