"""Checking hyper-parameters by name and value, before anything is trained."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from hanse.errors import ConfigError
from hanse.kinds import Task
from hanse.messages import Json

Check = Callable[[Json], str]  # "" if the value fits, else what was expected
Known = Mapping[str, tuple[Json, Check]]  # name to default and check


def checked(model: str, options: Mapping[str, Json], known: Known) -> dict[str, Any]:
    """All options with their defaults. Raises ``ConfigError`` naming the first that is wrong."""
    for name, value in options.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"{model} has no option {name!r}; {hint}known are {', '.join(sorted(known))}")
        expected = known[name][1](value)
        if expected:
            raise ConfigError(f"option {name} of {model} is {value!r}; expected {expected}")
    return {name: options.get(name, default) for name, (default, _) in known.items()}


def task_fits(model: str, task: Task, tasks: tuple[str, ...]) -> None:
    """Raises ``ConfigError`` where a model cannot learn the task."""
    if task.kind not in tasks:
        raise ConfigError(f"{model} learns {' and '.join(tasks)}, but the task is {task.kind}; choose another model")


def number(low: float, high: float = math.inf, *, above: bool = False, below: bool = False) -> Check:
    def check(value: Json) -> str:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if fits and low <= value <= high and not (above and value == low) and not (below and value == high):
            return ""
        return f"a number {'above' if above else 'from'} {low:g}" + (f" to {high:g}" if high < math.inf else "")

    return check


def whole(low: int, high: int = 10**9) -> Check:
    def check(value: Json) -> str:
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if fits else f"a whole number from {low} to {high}"

    return check


def one_of(*allowed: Json) -> Check:
    return lambda value: (
        ""
        if any(value is a or value == a and type(value) is type(a) for a in allowed)
        else ("one of " + ", ".join(str(a) for a in allowed))
    )


def either(*checks: Check) -> Check:
    return lambda value: "" if any(not c(value) for c in checks) else " or ".join(c(value) for c in checks)


boolean: Check = lambda value: "" if isinstance(value, bool) else "true or false"  # noqa: E731
nothing: Check = lambda value: "" if value is None else "null"  # noqa: E731


def widths(value: Json) -> str:
    fits = isinstance(value, (list, tuple)) and len(value) <= 20
    good = fits and all(isinstance(v, int) and not isinstance(v, bool) and 0 < v <= 100_000 for v in value)
    return "" if good else "a list of layer widths from 1 to 100000"
