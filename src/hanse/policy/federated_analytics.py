"""Statistics only where the owner allows them (``allow_federated_analytics``), of the columns that they
allow (``statistics_columns``, ``statistics_denied_columns``), and not of their node by itself unless they
say so (``allow_node_statistics``): a question that is put to one node alone is about that node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hanse.facts import Facts
from hanse.messages import Json
from hanse.rule import Decision
from hanse.settings import Setting, whole

SETTINGS = {
    "allow_federated_analytics": Setting(
        False, "whether statistics are computed here; they are then accepted at once", simulated=True
    ),
    "minimum_cell": Setting(10, "no count, group or bin of fewer rows leaves in statistics", whole(1)),
    "allow_extremes": Setting(
        False,
        "whether what stands for single values may leave: the smallest, the largest, "
        "and which different ones there are",
    ),
    "hide_rare_values": Setting(
        False,
        "whether means, variances and covariances of a column of two or three values are kept back where one of them "
        "stands in fewer rows than minimum_cell: its mean is a count",
    ),
    "allow_node_statistics": Setting(
        False,
        "whether this node may be shown by itself in statistics, or asked alone",
        simulated=lambda sites: sites == 1,  # who simulates one site asks about it
    ),
    "statistics_columns": Setting(("*",), "statistics are of these columns; * for all"),
    "statistics_denied_columns": Setting((), "and not of these"),
    "most_filters": Setting(20, "so many different choices of rows are answered per version of a dataset"),
}


@dataclass(frozen=True, slots=True)
class AnalyticsAllowed:
    policy: Mapping[str, Json]
    name: str = "federated_analytics"
    reads: ClassVar = frozenset({"at_once", "features", "nodes"})

    def decide(self, facts: Facts) -> Decision:
        """What owners answer at once in their settings is what this rule is for."""
        if facts.at_once is False:
            return Decision(True, self.name)
        if self.policy["allow_federated_analytics"] is not True:
            return Decision(
                False,
                self.name,
                "this node gives no statistics; its owner allows them with allow_federated_analytics = true",
                "allow_federated_analytics true",
            )
        if facts.nodes == 1 and self.policy["allow_node_statistics"] is not True:
            return Decision(
                False,
                self.name,
                "this node is asked alone, and gives no statistics of itself alone; its "
                "owner allows them with allow_node_statistics = true",
                "allow_node_statistics true",
            )
        allowed, denied = self.policy["statistics_columns"], self.policy["statistics_denied_columns"]
        barred = sorted(c for c in facts.features if c in denied or ("*" not in allowed and c not in allowed))
        if barred:
            left = [c for c in denied if c not in barred]
            remedy = (
                f"statistics_denied_columns '{','.join(left)}'"
                if len(left) < len(denied)
                else f"statistics_columns '{','.join([*allowed, *barred])}'"
            )
            return Decision(False, self.name, f"this node gives no statistics of {', '.join(barred)}", remedy)
        return Decision(True, self.name)


RULE = AnalyticsAllowed
