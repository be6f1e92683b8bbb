"""Whether the coordinator may see what this node contributes by itself, or only sums that hide it
(``allow_single_contributions``). What does not add up cannot be hidden, and is refused with that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hanse.facts import Facts
from hanse.messages import Json
from hanse.registry import find
from hanse.rule import Decision
from hanse.settings import Setting

SETTINGS = {
    "allow_single_contributions": Setting(
        True, "whether the coordinator may see this node's contributions by themselves, or only sums that hide them"
    ),
}


@dataclass(frozen=True, slots=True)
class SingleContributions:
    policy: Mapping[str, Json]
    name: str = "single_contributions"

    def decide(self, facts: Facts) -> Decision:
        """
        >>> from types import SimpleNamespace
        >>> facts = SimpleNamespace(gathering={"each": "plain", "sum": "plain"})
        >>> SingleContributions({"allow_single_contributions": False}).decide(facts).reason
        'the coordinator would see what this node alone contributes by each, sum, and its owner allows only hidden sums'
        """
        ways = facts.gathering
        if not isinstance(ways, Mapping) or not ways:
            return Decision(False, self.name, "nobody knows how this run gathers what nodes contribute")
        seen = [] if self.policy["allow_single_contributions"] is True else [w for w in sorted(ways) if _seen(ways[w])]
        if not seen:
            return Decision(True, self.name)
        return Decision(
            False,
            self.name,
            f"the coordinator would see what this node alone contributes by {', '.join(seen)}, and its owner allows "
            "only hidden sums",
            "allow_single_contributions true",
        )


def _seen(name: Json) -> bool:
    return not find("gathering", name).HIDES


RULE = SingleContributions
