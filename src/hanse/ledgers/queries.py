"""How many asks were answered of a data set, over all runs and people (``most_queries``).

Every ask that computes from the rows counts: each pass of a statistic, each step of a training. The same ask
answered again, because a reply was lost or a run went on after a crash, counts once. Of a gather with several
exchanges, those that its file says compute nothing from rows (``WITHOUT_ROWS``) are free.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hanse.budgets import each, limit, used
from hanse.facts import Facts
from hanse.ledger import Account
from hanse.messages import Json
from hanse.registry import find
from hanse.rule import Decision, allowed
from hanse.settings import Setting

SETTINGS = {
    "most_queries": Setting(0, "so many asks are answered of a data set, over all runs and people; 0: no limit"),
    "query_budgets": each("that"),
}


@dataclass(frozen=True, slots=True)
class Queries:
    policy: Mapping[str, Json]
    name: str = "queries"

    def account(self, facts: Facts) -> Account | None:
        """The data set by its name: a new version of it goes on from what was spent of the old."""
        if facts.dataset is None or facts.operation in _without_rows(facts.gathering[facts.combine]):
            return None
        return Account(facts.dataset.name)

    def most(self, facts: Facts) -> Json:
        return 1

    def add(self, spent: Json, more: Json) -> Json:
        return spent + more

    def refuses(self, spent: Json, facts: Facts) -> Decision:
        assert facts.dataset is not None
        most = limit(self.policy["most_queries"], self.policy["query_budgets"], facts.dataset.name)
        if most == 0 or spent <= most:
            return allowed(self.name)
        return Decision(
            False,
            self.name,
            f"this node answers at most {most:g} asks of one data set, and they are used up",
            f"most_queries {spent}",
        )

    def describe(self, spent: Json, dataset: str = "") -> str:
        """
        >>> policy = {"most_queries": 0, "query_budgets": ["visits=9"]}
        >>> Queries(policy).describe(3), Queries(policy).describe(3, "visits")
        ('3 asks answered, no limit', '33 %: 3 of at most 9 asks answered')
        """
        most = limit(self.policy["most_queries"], self.policy["query_budgets"], dataset)
        return used(spent, most, "asks answered")


@functools.lru_cache(64)
def _without_rows(gathering: str) -> Collection[str]:
    """The operations of a gathering that compute nothing from rows, looked up once: each ask names one. Where there is
    no such gathering it raises, which counts as a no."""
    found: Collection[str] = getattr(find("gathering", gathering), "WITHOUT_ROWS", ())
    return found


LEDGER = Queries
