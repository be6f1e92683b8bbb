"""The states of a run, and which follows which: data, not code."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

from hanse.errors import ConfigError, IllegalTransition


class RunState(StrEnum):
    """Where a run stands; :data:`TRANSITIONS` says where it can go from there."""

    PENDING = "pending"  # made, not yet proposed
    AWAITING_CONSENT = "awaiting_consent"  # proposed; owners decide
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"  # asked to end after the step that is on its way
    COMPLETED = "completed"
    REJECTED = "rejected"  # an owner said no, or nodes refused what they had agreed to
    EXPIRED = "expired"  # not everybody answered in time
    CANCELLED = "cancelled"
    FAILED = "failed"  # without a result; its last state is kept, so that it can be resumed


def _table() -> MappingProxyType[RunState, frozenset[RunState]]:
    s = RunState
    return MappingProxyType(
        {
            s.PENDING: frozenset({s.AWAITING_CONSENT, s.CANCELLED, s.FAILED}),
            s.AWAITING_CONSENT: frozenset({s.RUNNING, s.REJECTED, s.EXPIRED, s.CANCELLED}),
            s.RUNNING: frozenset({s.PAUSED, s.STOPPING, s.COMPLETED, s.CANCELLED, s.FAILED, s.REJECTED}),
            s.PAUSED: frozenset({s.RUNNING, s.STOPPING, s.CANCELLED, s.FAILED, s.REJECTED}),
            s.STOPPING: frozenset({s.COMPLETED, s.CANCELLED, s.FAILED, s.REJECTED}),
            s.COMPLETED: frozenset(),
            s.REJECTED: frozenset(),
            s.EXPIRED: frozenset(),
            s.CANCELLED: frozenset(),
            s.FAILED: frozenset({s.AWAITING_CONSENT, s.CANCELLED}),  # resumed, or given up
        }
    )


TRANSITIONS = _table()
TERMINAL = frozenset({RunState.COMPLETED, RunState.REJECTED, RunState.EXPIRED, RunState.CANCELLED, RunState.FAILED})
ACTIVE = frozenset(RunState) - TERMINAL


def state(name: str) -> RunState:
    """The state of that name. Raises ``ConfigError`` naming those that there are."""
    try:
        return RunState(name)
    except ValueError:
        raise ConfigError(f"there is no state {name!r}; known are {', '.join(RunState)}") from None


def check(run_id: str, before: RunState, after: RunState) -> None:
    """Raises ``IllegalTransition`` unless ``after`` may follow ``before``.

    >>> check("run-1", RunState.RUNNING, RunState.PAUSED)
    """
    possible = TRANSITIONS[before]
    if after not in possible:
        then = f"from there it can become {', '.join(sorted(possible))}" if possible else "that is final"
        raise IllegalTransition(f"run {run_id} is {before} and cannot become {after}; {then}")
