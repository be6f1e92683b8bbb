"""In how many words one step of a run is asked: at most once and as often again as the run may fail.

A step that is tried again asks the same, and the same ask counts once; only a gathering that draws anew at
each attempt asks in other words. So a coordinator cannot ask one approved step with ever other parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hanse.facts import Facts
from hanse.ledger import Account
from hanse.messages import Json
from hanse.rule import Decision, allowed


@dataclass(frozen=True, slots=True)
class Attempts:
    policy: Mapping[str, Json]
    name: str = "attempts"

    def account(self, facts: Facts) -> Account | None:
        """One for each exchange of each step of a run that touches data; it ends with the run."""
        if not facts.needs_data:
            return None
        name = f"{facts.run} {facts.bundle} {facts.step} {facts.exchange} {facts.operation}"
        return Account(name, facts.run)

    def most(self, facts: Facts) -> Json:
        return 1

    def add(self, spent: Json, more: Json) -> Json:
        return spent + more

    def refuses(self, spent: Json, facts: Facts) -> Decision:
        most = 1 + facts.settings["max_failed_rounds"]
        if spent <= most:
            return allowed(self.name)
        return Decision(
            False,
            self.name,
            f"step {facts.step} was asked in {most} ways already, as often as the run may try it; "
            "that much was consented to",
        )

    def describe(self, spent: Json, dataset: str = "") -> str:
        return f"asked in {spent} ways"


LEDGER = Attempts
