"""No more than was consented to: no step beyond the most that the algorithm takes, no round beyond the run's.

Both follow from the configuration that the approved hash binds. That one step is not asked in ever other
words is counted by the ledger of attempts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hanse.facts import Facts
from hanse.messages import Json
from hanse.rule import Decision, allowed


@dataclass(frozen=True, slots=True)
class Amount:
    policy: Mapping[str, Json]
    name: str = "amount"
    reads: ClassVar = frozenset({"round", "rounds", "step", "steps"})

    def decide(self, facts: Facts) -> Decision:
        """The ask after the last round, which only evaluates, names the round after it."""
        if not 0 <= facts.step < facts.steps:
            return Decision(
                False,
                self.name,
                f"step {facts.step} was not consented to: this run has at most {facts.steps} steps, counted from 0",
            )
        if facts.round is not None and not 1 <= facts.round <= facts.rounds + 1:
            return Decision(
                False, self.name, f"round {facts.round} was not consented to: this run has {facts.rounds} rounds"
            )
        return allowed(self.name)


RULE = Amount
