"""The privacy of a year: releases of both kinds add up, each by what it costs."""

from __future__ import annotations

import functools
import json
from types import SimpleNamespace
from typing import Any

import pytest

from hanse.facts import now
from hanse.ledgers.privacy import PrivacySpent
from hanse.privacy import guarantee

POLICY = {"epsilon_budget": 3.0, "epsilon_budgets": [], "budget_delta": 1e-5}


def facts(run: str, epsilon: float, releases: int, steps: int = 0, sampling: float = 1.0) -> Any:
    promised = guarantee.of(guarantee.settled({"epsilon": epsilon}), "row", releases, 1, steps, sampling).to_json()
    return SimpleNamespace(
        privacy=promised, time=now(), proposer="Ada", run=run, dataset=SimpleNamespace(name="visits")
    )


def told(ledger: PrivacySpent, spent: Any) -> float:
    """ε as the owner reads it, from what lies on disk."""
    said = ledger.describe(json.loads(json.dumps(spent)))
    return float(said.partition("epsilon ")[2].split()[0])


def test_all_releases_of_a_sampled_run_are_the_epsilon_that_it_promised() -> None:
    ledger, asked = PrivacySpent(POLICY), facts("r1", 1.0, 10, steps=10, sampling=0.1)
    spent = functools.reduce(ledger.add, [ledger.most(asked)] * 10)
    assert told(ledger, spent) == pytest.approx(1.0, abs=0.006)
    assert told(ledger, ledger.whole(asked)) == pytest.approx(1.0, abs=0.006)
    assert told(ledger, ledger.most(asked)) < 0.5
    assert ledger.refuses(spent, asked).allowed


def test_runs_of_both_kinds_add_up_to_more_than_each_and_less_than_the_sum() -> None:
    ledger = PrivacySpent(POLICY)
    drawn, whole = facts("r1", 1.0, 10, steps=10, sampling=0.1), facts("r2", 1.0, 20)
    both = ledger.add(ledger.whole(drawn), ledger.whole(whole))
    assert 1.2 < told(ledger, both) < 2.0
    said = ledger.describe(both)
    assert "(r1 1, r2 1)" in said
    more = functools.reduce(ledger.add, [ledger.whole(facts(f"r{k}", 2.0, 5, 20, 0.05)) for k in range(3, 8)], both)
    refused = ledger.refuses(more, drawn)
    assert not refused.allowed
    assert "used up for this year: epsilon 3" in refused.reason
