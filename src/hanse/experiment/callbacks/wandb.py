"""Weights & Biases: a run of a project there; offline where nothing else is said, so nothing leaves this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hanse.errors import ConfigError
from hanse.experiment.callbacks import Begun, settings_of
from hanse.experiment.results import Result


class WandB:
    """Tells Weights & Biases.

    Args:
        project: of the run.
        folder: where the files of runs are.
        mode: ``offline`` writes a file, which ``wandb sync`` may send later; ``online`` sends.
    """

    def __init__(self, project: str = "hanse", folder: str | os.PathLike[str] = ".", mode: str = "offline") -> None:
        if mode not in ("offline", "online"):
            raise ConfigError(f"mode is {mode!r}; expected offline or online")
        try:
            import wandb
        except ImportError:
            raise ConfigError("Weights & Biases needs its package: pip install 'hanse[wandb]'") from None
        self._library, self._how = wandb, {"project": project, "dir": os.fspath(folder), "mode": mode}
        self._run: Any = None

    def began(self, run: Begun) -> None:
        """Makes the run, with the settings as its configuration."""
        about = {"hanse_run": run.run_id, **settings_of(run)}
        quiet = self._library.Settings(silent=True, disable_git=True, save_code=False, console="off")
        self._run = self._library.init(name=run.title, config=about, settings=quiet, reinit="create_new", **self._how)
        self._run.define_metric("*", step_metric="round")  # of one round there may be several calls

    def measured(self, round: int, metrics: Mapping[str, float]) -> None:
        """The metrics at the round."""
        self._run.log({"round": round, **metrics})

    def ended(self, state: str, reason: str, result: Result | None) -> None:
        """Ends the run; its summary says how."""
        self._run.summary.update({"hanse_state": state, "hanse_reason": reason})
        self._run.finish(exit_code=0 if state == "completed" else 1)
