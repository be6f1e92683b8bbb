"""Whether a model learns a task."""

from __future__ import annotations

from hanse.errors import ConfigError
from hanse.task import HAZARD, NUMBER, PROBABILITIES, Task

_SAID = {NUMBER: "a number", PROBABILITIES: "probabilities of classes", HAZARD: "a hazard"}
_SUCH = {NUMBER: "linear_regression", PROBABILITIES: "logistic_regression", HAZARD: "cox_regression"}


def task_fits(model: str, task: Task, predicts: tuple[str, ...]) -> None:
    """Raises ``ConfigError`` where a model cannot predict what the task needs."""
    if task.predicts not in predicts:
        such = f", such as {_SUCH[task.predicts]}" if task.predicts in _SUCH else ""
        raise ConfigError(
            f"{model} predicts {' and '.join(_SAID.get(p, p) for p in predicts)}; this is a {task.kind} task, by its "
            f"task_type or else by what the target holds, and needs {_SAID.get(task.predicts, task.predicts)}. Choose "
            f"another model{such}, or another target"
        )
