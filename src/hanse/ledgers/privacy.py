"""How much differential privacy was spent of a data set in a year, over all runs and people (``epsilon_budget``).

Every noised answer costs its ρ (:mod:`hanse.privacy.concentrated`), which adds up over whatever is asked; one whose
steps take secret samples of the rows costs less, by order (:mod:`hanse.privacy.sampled`), and the two add up, as ρ
costs α ρ in order α. A year's total is told as the ε that it is at ``budget_delta``. It is booked by person and run, so
that the owner sees who spent it. The same release, asked for again, has the same noise and costs once. What is not
noised is not counted here (``require_differential_privacy`` refuses it). A new year (UTC) begins with a whole budget;
what was spent in earlier years was spent of the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hanse.budgets import each, limit
from hanse.facts import Facts, now
from hanse.ledger import Account
from hanse.messages import Json
from hanse.privacy import concentrated, sampled
from hanse.rule import Decision, allowed
from hanse.settings import Setting, number

SETTINGS = {
    "epsilon_budget": Setting(
        0.0, "so much epsilon is spent of a data set in a year, over all runs and people; 0: no limit", number(0, 1e6)
    ),
    "epsilon_budgets": each("that"),
    "budget_delta": Setting(1e-5, "the delta at which a year's epsilon is told", number(0, 0.1, above=True)),
}
_UNITS = 1 << 60  # of ρ: whole numbers add up in every order to the same


@dataclass(frozen=True, slots=True)
class PrivacySpent:
    policy: Mapping[str, Json]
    name: str = "privacy"
    by_release = True

    def account(self, facts: Facts) -> Account | None:
        """The data set by its name, of runs that promise something: a new version goes on from what was spent."""
        return Account(facts.dataset.name) if facts.privacy is not None and facts.dataset is not None else None

    def most(self, facts: Facts) -> Json:
        """One release: year to person to run to units of ρ, or to order to units."""
        return self._units(facts, 1)

    def whole(self, facts: Facts) -> Json:
        """All releases that the run promised not to go beyond."""
        return self._units(facts, facts.privacy["releases"]) if facts.privacy is not None else {}

    def _units(self, facts: Facts, releases: int) -> Json:
        assert facts.privacy is not None
        sampling = facts.privacy.get("sampling", 1.0)
        if sampling < 1:
            steps = releases * facts.privacy["steps"]
            of = sampled.curve(sampling, facts.privacy["noise_multiplier"])
            whole: Json = {str(order): math.ceil(steps * cost * _UNITS) for order, cost in of.items()}
            return {str(facts.time.year): {facts.proposer: {facts.run: whole}}}
        each = math.floor(facts.privacy["rho"] / facts.privacy["releases"] * _UNITS)  # 2**-60 of ρ less, for whole sums
        return {str(facts.time.year): {facts.proposer: {facts.run: releases * each}}}

    def add(self, spent: Json, more: Json) -> Json:
        if not isinstance(spent, dict):
            return spent + more
        found = dict(spent)
        for name, inner in more.items():
            found[name] = self.add(found[name], inner) if name in found else inner
        return found

    def refuses(self, spent: Json, facts: Facts) -> Decision:
        assert facts.dataset is not None
        most, used = self._limit(facts.dataset.name), self._epsilon(spent, str(facts.time.year))
        if not most or used <= most * (1 + 1e-9):
            return allowed(self.name)
        return Decision(
            False,
            self.name,
            f"the privacy budget of this data set is used up for this year: epsilon {most:g}, and this answer would "
            f"make it {used:.3g}",
            f"epsilon_budget {math.ceil(used)}",
        )

    def describe(self, spent: Json, dataset: str = "") -> str:
        """
        >>> ledger = PrivacySpent({"epsilon_budget": 2.0, "epsilon_budgets": [], "budget_delta": 1e-5})
        >>> ledger.describe({str(now().year): {"Ada": {"run-1": int(0.0306 * 2**60)}}}).partition(": ")[2]
        '50 % of the year, epsilon 1 of 2 (delta 1e-05); Ada 1 (run-1 1)'
        """
        year = str(now().year)
        most, used = self._limit(dataset), self._epsilon(spent, year)
        share = f"{used / most:.0%} of the year, ".replace("%", " %") if most else ""
        of = f" of {most:g}" if most else ", no limit"
        people = []
        for person, runs in sorted(spent.get(year, {}).items()):
            of_runs = ", ".join(f"{run} {self._of([units]):.3g}" for run, units in sorted(runs.items()))
            people.append(f"{person or 'somebody'} {self._of(runs.values()):.3g} ({of_runs})")
        told = f"{year}: {share}epsilon {used:.3g}{of} (delta {self.policy['budget_delta']:g})"
        return "; ".join([told, *people])

    def _limit(self, dataset: str) -> float:
        return limit(self.policy["epsilon_budget"], self.policy["epsilon_budgets"], dataset)

    def _epsilon(self, spent: Json, year: str) -> float:
        return self._of(units for runs in spent.get(year, {}).values() for units in runs.values())

    def _of(self, runs: Iterable[Json]) -> float:
        """ε of what runs cost together: units of ρ each, or order to units."""
        spent = list(runs)
        rho = sum(units for units in spent if not isinstance(units, dict)) / _UNITS
        by_order = [units for units in spent if isinstance(units, dict)]
        if not by_order:
            return concentrated.epsilon_of(rho, self.policy["budget_delta"])
        total = {order: order * rho + sum(u[str(order)] for u in by_order) / _UNITS for order in sampled.ORDERS}
        return sampled.epsilon_of(total, self.policy["budget_delta"])


LEDGER = PrivacySpent
