"""How many noised answers a run gets from this node: never more than its promise of differential privacy counts.

Each release has a name that follows from all that is in it, so the same one, asked for again, counts once; any other
is another release, whatever the coordinator calls the step it asks it in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hanse.facts import Facts
from hanse.ledger import Account
from hanse.messages import Json
from hanse.rule import Decision, allowed


@dataclass(frozen=True, slots=True)
class Releases:
    policy: Mapping[str, Json]
    name: str = "releases"
    by_release = True

    def account(self, facts: Facts) -> Account | None:
        """One for each run that promises something; it ends with the run."""
        return Account(f"{facts.run} {facts.bundle}", facts.run) if facts.privacy is not None else None

    def most(self, facts: Facts) -> Json:
        return 1

    def add(self, spent: Json, more: Json) -> Json:
        return spent + more

    def refuses(self, spent: Json, facts: Facts) -> Decision:
        assert facts.privacy is not None
        most = facts.privacy["releases"]
        if spent <= most:
            return allowed(self.name)
        return Decision(
            False,
            self.name,
            f"this run promised that its differential privacy counts at most {most} noised answers of this node, and "
            "they are given",
        )

    def describe(self, spent: Json, dataset: str = "") -> str:
        return f"{spent} noised answers"


LEDGER = Releases
