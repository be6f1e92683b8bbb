"""Whether the coordinator may see what this node contributes by itself, or only sums that nobody sees in parts
(``require_secure_aggregation``), of how many nodes they must be, and by how many two of them must differ. What does not
add up cannot be hidden, and is refused then; words that all nodes must agree on (names and labels) are told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hanse.facts import Facts
from hanse.kinds import Combine
from hanse.messages import Json
from hanse.registry import find
from hanse.rule import Decision
from hanse.settings import Check, Setting, whole

_FORM = r"^[A-Za-z0-9._-]{1,64}=[0-9a-f]{64}$"
_PIN = re.compile(_FORM).fullmatch
SETTINGS = {
    "require_secure_aggregation": Setting(
        False, "whether the coordinator sees only sums that this node's contributions are hidden in"
    ),
    "secure_aggregation_nodes": Setting(
        3, "such sums are of at least so many nodes: of two, each knows the other's part", whole(2)
    ),
    "secure_aggregation_group": Setting(
        1,
        "two such sums of a run, which may ask nearly the same, differ by at least so many nodes (secure_group of the "
        "run); 1: by one, whose numbers the difference is then",
        whole(1),
    ),
    "node_fingerprints": Setting(
        (),
        "the keys of the other nodes, as NODE=FINGERPRINT (hanse node fingerprint, there); where any is given, secure "
        "sums are made with these nodes alone. Without, whose key it is, the coordinator's authority says",
        Check(
            "a list of NODE=FINGERPRINT, as hanse node fingerprint shows them at each node",
            lambda value: isinstance(value, (list, tuple)) and all(isinstance(v, str) and _PIN(v) for v in value),
            {"type": "array", "items": {"type": "string", "pattern": _FORM}},
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class SecureAggregation:
    policy: Mapping[str, Json]
    name: str = "secure_aggregation"
    reads: ClassVar = frozenset({"gathering", "nodes", "settings"})

    def decide(self, facts: Facts) -> Decision:
        """
        >>> from types import SimpleNamespace
        >>> facts = SimpleNamespace(gathering={"agree": "plain", "each": "plain", "sum": "plain"})
        >>> SecureAggregation({"require_secure_aggregation": True}).decide(facts).reason
        'the coordinator would see what this node alone contributes by each, sum, and its owner allows only hidden sums'
        """
        ways = facts.gathering
        if not isinstance(ways, Mapping) or not ways:
            return Decision(False, self.name, "nobody knows how this run gathers what nodes contribute")
        if self.policy["require_secure_aggregation"] is False:
            return Decision(True, self.name)
        seen = [way for way in sorted(ways) if way != Combine.AGREE and not find("gathering", ways[way]).HIDES]
        if seen:
            return self._no(
                f"the coordinator would see what this node alone contributes by {', '.join(seen)}, and its owner "
                "allows only hidden sums",
                "require_secure_aggregation false",
            )
        least = self.policy["secure_aggregation_nodes"]
        for name in sorted({ways[way] for way in ways if way != Combine.AGREE}):
            fewest = find("gathering", name).fewest(facts.settings, facts.nodes)
            if fewest < least:
                return self._no(
                    f"sums of this run may be of {fewest} nodes, and the owner of this node wants them to be of at "
                    f"least {least}",
                    f"secure_aggregation_nodes {fewest}",
                )
            apart, group = (
                find("gathering", name).apart(facts.settings, facts.nodes),
                self.policy["secure_aggregation_group"],
            )
            if apart < group:
                return self._no(
                    f"two sums of this run may differ by {apart} of its nodes, and the owner of this node wants "
                    f"them to differ by at least {group} (secure_group of the run)",
                    f"secure_aggregation_group {apart}",
                )
        return Decision(True, self.name)

    def _no(self, reason: str, remedy: str) -> Decision:
        return Decision(False, self.name, reason, remedy)


RULE = SecureAggregation
