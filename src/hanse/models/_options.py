"""Whether a model learns a task."""

from __future__ import annotations

from hanse.errors import ConfigError
from hanse.kinds import Task


def task_fits(model: str, task: Task, tasks: tuple[str, ...]) -> None:
    """Raises ``ConfigError`` where a model cannot learn the task."""
    if task.kind not in tasks:
        raise ConfigError(f"{model} learns {' and '.join(tasks)}, but the task is {task.kind}; choose another model")
