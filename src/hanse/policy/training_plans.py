"""Code that a researcher wrote runs only where the owner allows it (``allow_training_plans``), and only
where the worker is shut in: without a network, and with no other file than the approved data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hanse.facts import Facts
from hanse.messages import Json
from hanse.rule import Decision
from hanse.settings import Setting

SETTINGS = {
    "allow_training_plans": Setting(False, "whether code that a researcher wrote may run at all", simulated=True),
}


@dataclass(frozen=True, slots=True)
class TrainingPlans:
    policy: Mapping[str, Json]
    name: str = "training_plans"
    reads: ClassVar = frozenset({"exposed", "plan"})

    def decide(self, facts: Facts) -> Decision:
        if facts.plan is False:
            return Decision(True, self.name)
        if facts.exposed:
            return Decision(
                False,
                self.name,
                "this run brings a training plan of its own, and this node's system cannot keep the code of a plan "
                f"from {', '.join(facts.exposed)}",
            )
        if self.policy["allow_training_plans"] is True:
            return Decision(True, self.name)
        return Decision(
            False,
            self.name,
            "this run brings a training plan of its own, which this node does not allow",
            "allow_training_plans true",
        )


RULE = TrainingPlans
