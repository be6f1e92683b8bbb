"""A researcher's training plan: plain Python that owners read before they agree, as text in the setting ``plan``.

The text is executed where it trains, in a node's worker, and where its author loads the result; never at the
coordinator. What it raises crosses the wire as the kind of error and the line of the text, never as a message that may
be filled with data; that stays with the owner, in ``plan.log`` (:mod:`hanse.researcher_code`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import CodeType
from typing import Any

from hanse.errors import ConfigError, HanseError, NodeFailed
from hanse.messages import Json
from hanse.researcher_code import raised_by, told

_FILE = "<training plan>"


def given(model: str, options: Mapping[str, Json]) -> tuple[str, dict[str, Json]]:
    """The text of the plan, ``options["plan"]``, and all other options, which are for the plan's own ``build``. Raises
    ``ConfigError`` where there is no plan."""
    plan = options.get("plan")
    if not isinstance(plan, Mapping) or not isinstance(plan.get("source"), str):
        raise ConfigError(f"{model} needs a training plan: plan = {{source: Python text, name: text}}")
    unknown = sorted(set(plan) - {"source", "name"})
    if unknown:
        raise ConfigError(f"a training plan has source and name, not {', '.join(unknown)}")
    return plan["source"], {k: v for k, v in options.items() if k != "plan"}


@contextmanager
def names(source: str, called: str) -> Iterator[dict[str, Any]]:
    """The names of the text, executed. Whatever it raises while they are in use is told without its message."""
    try:
        found: dict[str, Any] = {"__name__": "training_plan"}
        exec(_code(source, called), found)
        if not callable(found.get("build")):
            raise ConfigError(f"{called} has no function build(task, options)")
        yield found
    except Exception as error:
        if isinstance(error, HanseError) and not raised_by(error, _FILE):
            raise
        raise NodeFailed(f"{called} failed: {told(error, _FILE, source)}") from error


def _code(source: str, called: str) -> CodeType:
    try:
        return _compiled(source)
    except SyntaxError as error:  # which tells of the text alone
        where = f" in line {error.lineno}" if error.lineno else ""
        raise NodeFailed(f"{called} is no Python that runs here: {error.msg}{where}") from error


@functools.lru_cache(8)
def _compiled(source: str) -> CodeType:
    return compile(source, _FILE, "exec")
