"""What may say no: a rule of the gate, and what it decides (:mod:`hanse.policy`)."""

from __future__ import annotations

import functools
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from hanse.facts import Facts


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule said. ``reason`` is shown to people on both sides; ``remedy``, to the owner alone, is the
    setting that would allow it, as ``hanse node policy set`` takes it; ``by``, for the audit, is what decided it where
    the rule has several parts or versions."""

    allowed: bool
    rule: str
    reason: str = ""
    remedy: str = ""
    by: str = ""


@functools.cache  # of a rule that is asked at each task, the same is said each time
def allowed(rule: str) -> Decision:
    """Yes, without a word more."""
    return Decision(True, rule)


class Rule(Protocol):
    """One rule of the gate. Given the facts of a task, allows it or says why not. ``decide`` may be a
    coroutine. A rule that raises, or takes too long, counts as a no; one that raises ``NotNow`` has what was asked wait
    until it is asked again.

    A rule whose yes follows from some of the facts alone, and from what it was made with, may say from which:
    ``reads``, a frozenset of their names. A node then asks it again only where one of these has changed, and hands it
    no others; of ``time``, the minute.
    """

    name: str

    def decide(self, facts: Facts) -> Decision | Awaitable[Decision]:
        """Yes, or no with its reason. What it reads and is not there raises, and counts as a no."""
        ...
