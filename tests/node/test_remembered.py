"""A yes counts for the next task that is the same to a rule, and for no other."""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hanse import policy
from hanse.cedar import files
from hanse.facts import Facts
from hanse.node.remembered import RememberedRules
from hanse.registry import find, names
from hanse.rule import Decision
from tests.policy.some_facts import FINE, facts

NIGHT = datetime(2026, 3, 1, 22, 59, 59, tzinfo=UTC)


class Asked:
    """A rule that reads two facts, and counts."""

    name = "asked"
    version = "1"

    def __init__(self, *reads: str, reading: str = "", says: Sequence[bool] = ()) -> None:
        self.reads, self._reading, self._says = frozenset(reads), reading, list(says)
        self.times: list[Any] = []

    def decides_by(self) -> str:
        return self.version

    def decide(self, facts: Facts) -> Decision:
        self.times.append(facts)
        for name in self._reading.split():
            getattr(facts, name)
        return Decision(self._says.pop(0) if self._says else True, self.name, by=f"{self.name} {len(self.times)}")


def decide(rules: RememberedRules, known: Facts) -> tuple[Sequence[Decision], str]:
    return decided(rules, known, rules.decides_by())


def decided(rules: RememberedRules, known: Facts, by: list[Any]) -> tuple[Sequence[Decision], str]:
    said = rules.decide(known, by)
    return said if isinstance(said, tuple) else asyncio.run(said)


def test_a_rule_is_asked_again_only_where_what_it_reads_is_another_one() -> None:
    one, other, each = Asked("rows"), Asked("bytes", "purpose"), find("policy", "amount").RULE({})
    rules = RememberedRules([one, each, other])
    for step in range(3):
        said, by = decide(rules, facts(step=step, round=step + 1))
        assert all(decision.allowed for decision in said)
        assert by == "asked: asked 1; asked: asked 1"
    assert (len(one.times), len(other.times)) == (1, 1)
    said, _ = decide(rules, facts(step=FINE.steps))
    assert [d.rule for d in said if not d.allowed] == ["amount"], "what reads the step is asked each time"
    for n, changed in enumerate(({"rows": 11}, {"bytes": 5}, {"purpose": "ads"}, {"run": "another"}), 2):
        decide(rules, facts(**changed))
        assert len(one.times) == n


def test_who_decided_is_told_anew_where_one_that_is_asked_each_time_says_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    each, told = Asked("step"), iter([Decision(True, "each", by=by) for by in ("a", "a", "b", "")])
    monkeypatch.setattr(each, "decide", lambda facts: next(told))
    rules = RememberedRules([Asked("rows"), each])
    assert [decide(rules, facts(step=step))[1].partition("; ")[2] for step in range(4)] == [
        "each: a",
        "each: a",
        "each: b",
        "",
    ]


@pytest.mark.parametrize("name", ["step", "round", "exchange"])
def test_what_is_another_one_in_each_task_is_read_each_time(name: str) -> None:
    rule = Asked(name, "rows")
    rules = RememberedRules([rule])
    for _ in range(2):
        decide(rules, FINE)
    assert rule.times == [FINE, FINE]


def test_a_rule_that_reads_what_it_does_not_say_finds_nothing_there() -> None:
    rules = RememberedRules([Asked("rows", reading="rows step")])
    for step in range(2):
        [said], _ = decide(rules, facts(step=step))
        assert (said.allowed, said.reason) == (False, "the fact 'step' is missing, so the rule says no")


def test_a_no_is_asked_again() -> None:
    rule = Asked("rows", says=[False, True])
    rules = RememberedRules([rule])
    assert [decide(rules, FINE)[0][0].allowed for _ in range(3)] == [False, True, True]
    assert len(rule.times) == 2


def test_another_version_is_asked_again_and_one_that_changed_meanwhile_is_not_remembered() -> None:
    rule = Asked("rows")
    rules = RememberedRules([rule])
    decide(rules, FINE)
    rule.version = "2"
    decide(rules, FINE)
    assert len(rule.times) == 2
    rule.decide = lambda facts: (setattr(rule, "version", "4"), Asked.decide(rule, facts))[1]  # type: ignore[method-assign]
    rule.version = "3"
    before = rules.decides_by()
    decided(rules, FINE, before)
    decided(rules, FINE, before)
    assert len(rule.times) == 4


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"rows": 1}, {"rows": True}),
        ({"rows": 1}, {"rows": 1.0}),
        ({"settings": {"a": 1}}, {"settings": {"a": True}}),
        ({"settings": {"a": 1}}, {"settings": {"a": 1}}),  # they could have been changed within
        ({"rows": 0}, {"rows": None}),
    ],
)
def test_what_is_only_equal_is_asked_again(first: dict[str, Any], then: dict[str, Any]) -> None:
    rule = Asked("rows", "settings")
    rules = RememberedRules([rule])
    same = FINE.settings
    decide(rules, facts(**{"settings": same, **first}))
    decide(rules, facts(**{"settings": same, **then}))
    assert len(rule.times) == 2


@pytest.mark.parametrize("by", [timedelta(seconds=1), -timedelta(minutes=1), timedelta(days=1)])
def test_of_the_time_the_minute_is_read(by: timedelta) -> None:
    """Also where the clock is put back."""
    rule, untimed = Asked("time"), Asked("rows")
    rules = RememberedRules([rule, untimed])
    for second in (58, 0, 59):
        decide(rules, facts(time=NIGHT.replace(second=second)))
    assert [seen.time for seen in rule.times] == [NIGHT.replace(second=0)]
    decide(rules, facts(time=NIGHT + by))
    assert [seen.time for seen in rule.times[1:]] == [(NIGHT + by).replace(second=0)]


def test_policies_are_evaluated_again_where_what_they_read_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hour, the rows, the person and the run by its id; and the policies themselves, as they change."""
    monkeypatch.setattr(files, "LOOK_S", 0.0)
    monkeypatch.setattr(files, "OVER_S", 0.0)
    text = """
    @id("all") permit (principal, action, resource) unless { principal == Person::"Eve" || resource == Run::"bad" };
    @id("day") forbid (principal, action, resource) when { context.time.hour >= 23 };
    @id("few") forbid (principal, action, resource) unless { context has rows && context.rows < 100 };
    """
    (tmp_path / "mine.cedar").write_text(text)
    rules = RememberedRules([find("policy", "policy_file").RULE({"policy_file": "mine.cedar", "home": str(tmp_path)})])

    def said(**changed: Any) -> str:
        [one], _ = decide(rules, facts(**{"time": NIGHT, **changed}))
        return one.reason

    for step in range(2):
        assert said(step=step) == ""
    assert "'day'" in said(time=NIGHT + timedelta(seconds=1))
    assert said() == ""
    assert "'few'" in said(rows=100)
    assert "'few'" in said(rows=None)
    assert "nothing permits it" in said(proposer="Eve")
    assert "nothing permits it" in said(run="bad")
    assert said() == ""
    (tmp_path / "mine.cedar").write_text(
        text + '@id("step") forbid (principal, action, resource) when { context.step > 2 };'
    )
    assert said(step=2) == ""
    assert "'step'" in said(step=3)


@pytest.mark.parametrize(
    "name", [n for n in names("policy") if isinstance(getattr(find("policy", n).RULE, "reads", None), frozenset)]
)
def test_a_rule_of_ours_says_all_that_it_reads_and_nothing_else(name: str) -> None:
    """The facts that stand in its code."""
    rule = find("policy", name).RULE
    code = ast.parse(textwrap.dedent(inspect.getsource(rule.decide)))
    read = [n for n in ast.walk(code) if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "facts"]
    assert {attribute.attr for attribute in read} == rule.reads


def test_at_a_node_few_rules_are_asked_of_a_next_task() -> None:
    made = policy.rules(policy.simulated({}, 3))
    rules = RememberedRules(made)
    first, _ = decide(rules, FINE)
    said, _ = decide(rules, facts(step=5, round=6))
    assert {d.rule for d in first} == set(names("policy"))
    assert {d.rule for d in said} == {"amount", "limits"}
