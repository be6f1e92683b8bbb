"""Each rule says yes, no, and no when it cannot know."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hanse import policy
from hanse.errors import NotAllowed
from hanse.kinds import find, names
from hanse.node.settings import Limits, Policy

OWNER: dict[str, Any] = {"allowed_algorithms": ["fedavg", "probe"], "allow_training_plans": False,
                         "minimum_samples": 10, "minimum_count": 5, "message_bytes": 100, "steps": 5}  # fmt: skip
FINE: dict[str, Any] = {"sender": "coordinator", "run": "r", "bundle": "b", "op": "answer", "algorithm": "fedavg",
                        "model": "m", "plan": False, "needs_data": True, "rows": 10, "bytes": 100, "step": 4,
                        "features": ["a"], "nodes": 2}  # fmt: skip


def test_all_rules_allow_what_is_fine() -> None:
    rules = policy.rules(OWNER)
    assert {r.name for r in rules} == set(names("policy"))  # file and rule have one name
    assert all(d.allowed for d in policy.decide(rules, FINE))
    policy.enforce(rules, FINE)


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        ("approved_algorithms", {"algorithm": "forest"}), ("approved_algorithms", {"algorithm": None}),
        ("training_plans", {"plan": True}), ("training_plans", {"plan": None}), ("training_plans", {"plan": 0}),
        ("minimum_samples", {"rows": 9}), ("minimum_samples", {"rows": None}), ("minimum_samples", {"rows": "many"}),
        ("minimum_samples", {"needs_data": 0, "rows": 1}), ("minimum_samples", {"rows": float("nan")}),
        ("limits", {"bytes": 101}), ("limits", {"step": 5}), ("limits", {"step": -1}), ("limits", {"bytes": None}),
    ],
)  # fmt: skip
def test_each_rule_says_no(rule: str, wrong: dict[str, Any]) -> None:
    said = {d.rule: d for d in policy.decide(policy.rules(OWNER), FINE | wrong)}
    assert not said[rule].allowed
    assert said[rule].reason
    if None not in wrong.values() and "many" not in wrong.values():  # facts that make sense
        key = said[rule].remedy.split()[0]
        assert key.removeprefix("limits.") in {f.name for c in (Policy, Limits) for f in dataclasses.fields(c)}
    assert all(d.allowed for name, d in said.items() if name != rule)
    with pytest.raises(NotAllowed, match=rule):
        policy.enforce(policy.rules(OWNER), FINE | wrong)


def test_no_facts_and_no_settings_allow_nothing() -> None:
    assert not any(d.allowed for d in policy.decide(policy.rules(OWNER), {}))
    said = {d.rule: d.allowed for d in policy.decide(policy.rules({}), FINE)}
    assert said == {"approved_algorithms": False, "training_plans": True, "minimum_samples": False, "limits": False,
                    "federated_analytics": True}  # fmt: skip
    with pytest.raises(NotAllowed, match="no rules"):
        policy.enforce((), FINE)


def test_what_the_owner_sets_counts() -> None:
    for change, facts in (({"allowed_algorithms": ["*"]}, {"algorithm": "forest"}),
                          ({"allow_training_plans": True}, {"plan": True}), ({"minimum_samples": 1}, {"rows": 1}),
                          ({"message_bytes": 1000}, {"bytes": 1000}), ({"steps": 10}, {"step": 9})):  # fmt: skip
        policy.enforce(policy.rules(OWNER | change), FINE | facts)
    policy.enforce(policy.rules(OWNER), FINE | {"needs_data": False, "rows": None})


def test_the_number_of_rows_is_in_no_reason() -> None:
    rule = find("policy", "minimum_samples").RULE(OWNER)
    assert "7" not in rule.decide(FINE | {"rows": 7}).reason
