"""A dataset of too few rows takes no part (``minimum_samples``), and groups of too few are not told apart
(``minimum_count``): what is said of few is said of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hanse.facts import Facts
from hanse.messages import Json
from hanse.rule import Decision
from hanse.settings import Setting, whole

SETTINGS = {
    "minimum_samples": Setting(10, "a dataset of fewer rows takes no part", whole(1), simulated=0),
    "minimum_count": Setting(5, "groups of fewer rows are not told apart in what leaves", whole(1), simulated=1),
}


@dataclass(frozen=True, slots=True)
class MinimumSamples:
    policy: Mapping[str, Json]
    name: str = "minimum_samples"
    reads: ClassVar = frozenset({"needs_data", "rows"})

    def decide(self, facts: Facts) -> Decision:
        """The reason does not say how many rows there are: it crosses the wire."""
        least = self.policy["minimum_samples"]
        if facts.needs_data is False or (facts.rows is not None and facts.rows >= least):
            return Decision(True, self.name)
        return Decision(
            False,
            self.name,
            f"the dataset has fewer rows than this node's minimum of {least}",
            f"minimum_samples {facts.rows}",
        )


RULE = MinimumSamples
