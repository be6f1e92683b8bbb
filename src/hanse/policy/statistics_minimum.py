"""Where the owner's minimum holds in statistics: at this node, or on the total of all nodes in a secure sum
(``statistics_minimum``). One or the other: what nodes tell for themselves, taken off a total, shows what they keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hanse.facts import Facts
from hanse.kinds import Combine
from hanse.messages import Json
from hanse.registry import find
from hanse.rule import Decision
from hanse.settings import Setting, one_of

SETTINGS = {
    "statistics_minimum": Setting(
        "node",
        "where minimum_cell holds: at this node, before anything leaves it; or on the total, in secure sums of at "
        "least secure_aggregation_nodes nodes, of which the coordinator keeps small cells back",
        one_of("node", "total"),
    ),
}


@dataclass(frozen=True, slots=True)
class StatisticsMinimum:
    policy: Mapping[str, Json]
    name: str = "statistics_minimum"
    reads: ClassVar = frozenset({"algorithm", "at_once", "gathering", "nodes", "settings"})

    def decide(self, facts: Facts) -> Decision:
        """
        >>> from types import SimpleNamespace
        >>> facts = SimpleNamespace(at_once=True, algorithm="statistics")
        >>> StatisticsMinimum({"statistics_minimum": "total"}).decide(facts).reason.partition(",")[0]
        'the minimum of this node holds on totals'
        """
        if facts.at_once is False:  # no statistics
            return Decision(True, self.name)
        asked = getattr(find("algorithms", facts.algorithm), "MINIMUM", "")
        if asked not in ("", self.policy["statistics_minimum"]):
            if asked == "node":
                return self._no(
                    "the minimum of this node holds on totals, and what it told for itself could be taken off them; "
                    "ask with gathering = secure, and of all of these nodes",
                    "statistics_minimum node",
                )
            return self._no(
                "this node keeps its small cells back itself, and the minimum of this run holds on the total alone",
                "statistics_minimum total",
            )
        if asked != "total":
            return Decision(True, self.name)
        way = find("gathering", facts.gathering[Combine.SUM])
        if not way.HIDES:
            return self._no(
                "the minimum of this run holds on the total, and the coordinator would see this node's part"
            )
        least, of = self.policy["secure_aggregation_nodes"], way.fewest(facts.settings, facts.nodes)
        if of < facts.nodes:
            return self._no(
                f"a total is of all {facts.nodes} nodes of the run, and sums of this one may be of {of}: two that "
                f"differ by a node would show its numbers; the run sets secure_threshold to {facts.nodes}"
            )
        if of < least:
            return self._no(
                f"totals of this run are of {of} nodes, and the owner of this node wants at least {least}",
                f"secure_aggregation_nodes {of}",
            )
        return Decision(True, self.name)

    def _no(self, reason: str, remedy: str = "") -> Decision:
        return Decision(False, self.name, reason, remedy)


RULE = StatisticsMinimum
