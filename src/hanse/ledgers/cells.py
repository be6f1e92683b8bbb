"""How many numbers statistics have told of a data set, over all queries and people (``most_cells``).

Every number of an answer counts: a mean is a count and a sum, a histogram one for each bin, a table one for each cell.
Enough exact sums of the same rows determine them (Dinur and Nissim 2003), so an owner may bound how many there are. The
same ask answered again counts once. What models are learned from is not counted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hanse.budgets import each, limit, used
from hanse.facts import Facts
from hanse.ledger import Account
from hanse.messages import Json
from hanse.rule import Decision, allowed
from hanse.settings import Setting

SETTINGS = {
    "most_cells": Setting(0, "so many numbers are told of a data set in statistics, over all people; 0: no limit"),
    "cell_budgets": each("that"),
}


@dataclass(frozen=True, slots=True)
class CellsTold:
    policy: Mapping[str, Json]
    name: str = "cells"
    late = True

    def account(self, facts: Facts) -> Account | None:
        """The data set by its name, of what owners answer at once: statistics."""
        return Account(facts.dataset.name) if facts.at_once and facts.dataset is not None else None

    def most(self, facts: Facts) -> Json:
        """Nobody knows before the answer is there; it says then."""
        return 0

    def add(self, spent: Json, more: Json) -> Json:
        return spent + more

    def refuses(self, spent: Json, facts: Facts) -> Decision:
        assert facts.dataset is not None
        most = limit(self.policy["most_cells"], self.policy["cell_budgets"], facts.dataset.name)
        if not most or spent <= most:
            return allowed(self.name)
        return Decision(
            False,
            self.name,
            f"this node tells at most {most:g} numbers of this data set in statistics, and this answer would be beyond",
            f"most_cells {spent}",
        )

    def describe(self, spent: Json, dataset: str = "") -> str:
        """
        >>> CellsTold({"most_cells": 200, "cell_budgets": ["visits=50"]}).describe(31, "visits")
        '62 %: 31 of at most 50 numbers told'
        """
        most = limit(self.policy["most_cells"], self.policy["cell_budgets"], dataset)
        return used(spent, most, "numbers told")


LEDGER = CellsTold
