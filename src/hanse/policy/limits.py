"""No message larger, and no run longer, than the owner wants (``message_bytes``, ``steps``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hanse.facts import Facts
from hanse.messages import Json
from hanse.rule import Decision, allowed


@dataclass(frozen=True, slots=True)
class Limits:
    policy: Mapping[str, Json]
    name: str = "limits"
    reads: ClassVar = frozenset({"bytes", "step"})

    def decide(self, facts: Facts) -> Decision:
        if facts.bytes > self.policy["message_bytes"]:
            return Decision(
                False,
                self.name,
                f"the task has {facts.bytes} bytes; this node takes up to {self.policy['message_bytes']}",
                f"limits.message_mb {-(-facts.bytes >> 20)}",
            )
        if not 0 <= facts.step < self.policy["steps"]:
            return Decision(
                False,
                self.name,
                f"step {facts.step} is over this node's limit of {self.policy['steps']} steps",
                f"limits.steps {facts.step + 1}",
            )
        return allowed(self.name)


RULE = Limits
