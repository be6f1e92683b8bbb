"""Facts of a task that nothing speaks against, for tests to change."""

from __future__ import annotations

import dataclasses
from typing import Any

from hanse.facts import Data, Facts, now

RUN: dict[str, Any] = {  # of a run, whoever looks at it
    "proposer": "Ada",
    "purpose": "to test",
    "study": None,
    "run": "r",
    "bundle": "b",
    "algorithm": "fedavg",
    "model": "m",
    "settings": {"max_failed_rounds": 3},
    "rounds": 10,
    "steps": 15,
    "nodes": 2,
    "features": ("a",),
    "plan": False,
    "at_once": False,
    "needs_data": True,
    "countries": ("CH", "DE"),
    "gathering": {"sum": "plain"},
    "transforms": (),
    "privacy": None,
}

FINE = Facts(
    **RUN,
    sender="coordinator",
    dataset=Data(name="visits", version="1", tags=("heart",)),
    rows=10,
    step=4,
    exchange=0,
    operation="answer",
    combine="sum",
    round=2,
    bytes=100,
    exposed=(),
    time=now(),
)


def facts(**changes: Any) -> Facts:
    """Those, with these changed."""
    return dataclasses.replace(FINE, **changes)


def without(*absent: str, of: Facts = FINE) -> Facts:
    """Facts that are not all there; reading one of ``absent`` raises."""
    made: Facts = object.__new__(Facts)
    for field in dataclasses.fields(Facts):
        if field.name not in absent:
            object.__setattr__(made, field.name, getattr(of, field.name))
    return made
