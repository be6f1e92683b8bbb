"""Only algorithms that the owner allows (``allowed_algorithms``; ``*``: all that are shipped)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hanse.facts import Facts
from hanse.messages import Json
from hanse.rule import Decision
from hanse.settings import Setting

SETTINGS = {
    "allowed_algorithms": Setting(("*",), "names of algorithms; * for all that are shipped", names="algorithms"),
}


@dataclass(frozen=True, slots=True)
class ApprovedAlgorithms:
    policy: Mapping[str, Json]
    name: str = "approved_algorithms"
    reads: ClassVar = frozenset({"algorithm"})

    def decide(self, facts: Facts) -> Decision:
        """
        >>> from types import SimpleNamespace
        >>> rule = ApprovedAlgorithms({"allowed_algorithms": ["fedavg"]})
        >>> rule.decide(SimpleNamespace(algorithm="forest")).reason
        "'forest' is not among the algorithms that this node allows (fedavg)"
        """
        allowed = self.policy["allowed_algorithms"]
        if facts.algorithm in allowed or "*" in allowed:
            return Decision(True, self.name)
        known = ", ".join(allowed) or "none"
        return Decision(
            False,
            self.name,
            f"{facts.algorithm!r} is not among the algorithms that this node allows ({known})",
            f"allowed_algorithms {','.join([*allowed, str(facts.algorithm)])}",
        )


RULE = ApprovedAlgorithms
