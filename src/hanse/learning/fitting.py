"""Whether a model learns a task."""

from __future__ import annotations

from hanse.errors import ConfigError
from hanse.task import HAZARD, NUMBER, PROBABILITIES, Task

_SAID = {NUMBER: "a number", PROBABILITIES: "probabilities of classes", HAZARD: "a hazard"}


def task_fits(model: str, task: Task, predicts: tuple[str, ...]) -> None:
    """Raises ``ConfigError`` where a model cannot predict what the task needs."""
    if task.predicts not in predicts:
        raise ConfigError(
            f"{model} predicts {' and '.join(_SAID.get(p, p) for p in predicts)}; a {task.kind} task needs "
            f"{_SAID.get(task.predicts, task.predicts)}. Choose another model"
        )
