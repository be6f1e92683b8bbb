"""Statistics only where the owner allows them (``allow_federated_analytics``), of the columns that they
allow (``statistics_columns``, ``statistics_denied_columns``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hanse.kinds import Decision
from hanse.messages import Json


@dataclass(frozen=True, slots=True)
class FederatedAnalytics:
    policy: Mapping[str, Json]
    name: str = "federated_analytics"

    def decide(self, facts: Mapping[str, Json]) -> Decision:
        """
        >>> FederatedAnalytics({"allow_federated_analytics": False}).decide({"algorithm": "statistics"}).reason
        'this node gives no statistics; its owner allows them with allow_federated_analytics = true'
        """
        if facts["algorithm"] != "statistics":
            return Decision(True, self.name)
        if self.policy["allow_federated_analytics"] is not True:
            return Decision(False, self.name, "this node gives no statistics; its owner allows them with "
                                              "allow_federated_analytics = true")  # fmt: skip
        allowed, denied = self.policy["statistics_columns"], self.policy["statistics_denied_columns"]
        barred = sorted(c for c in facts["features"] if c in denied or ("*" not in allowed and c not in allowed))
        if barred:
            return Decision(False, self.name, f"this node gives no statistics of {', '.join(barred)}")
        return Decision(True, self.name)


RULE = FederatedAnalytics
