"""Each rule says yes, no, and no when it cannot know."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from some_facts import FINE, facts, without

from hanse import policy
from hanse.errors import ConfigError, NotAllowed
from hanse.facts import Facts, now
from hanse.node.settings import Policy, TaskLimits
from hanse.registry import find, names
from hanse.rule import Decision, Rule
from tests.waiting import PATIENCE

OWNER: dict[str, Any] = {
    "allowed_algorithms": ["fedavg", "probe"],
    "allow_training_plans": False,
    "minimum_samples": 10,
    "minimum_count": 5,
    "message_bytes": 100,
    "steps": 30,
    "require_secure_aggregation": False,
    "secure_aggregation_nodes": 3,
    "secure_aggregation_group": 1,
    "statistics_minimum": "node",
    "transforms": [],
    "require_differential_privacy": False,
    "max_epsilon_per_run": 0.0,
    "max_delta_per_run": 0.0,
    "privacy_unit": "any",
    "privacy_mode": "any",
    "policy_file": "",
}


def decide(rules: Sequence[Rule], known: Facts) -> list[Decision]:
    return asyncio.run(policy.decide(rules, known))


def enforce(rules: Sequence[Rule], known: Facts) -> None:
    asyncio.run(policy.enforce(rules, known))


def test_all_rules_allow_what_is_fine() -> None:
    rules = policy.rules(OWNER)
    assert {r.name for r in rules} == set(names("policy"))  # file and rule have one name
    assert all(d.allowed for d in decide(rules, FINE))
    enforce(rules, FINE)


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        ("approved_algorithms", {"algorithm": "forest"}),
        ("approved_algorithms", {"algorithm": None}),
        ("training_plans", {"plan": True}),
        ("training_plans", {"plan": None}),
        ("training_plans", {"plan": 0}),
        ("minimum_samples", {"rows": 9}),
        ("minimum_samples", {"rows": None}),
        ("minimum_samples", {"rows": "many"}),
        ("minimum_samples", {"needs_data": 0, "rows": 1}),
        ("training_plans", {"plan": True, "exposed": ("the network",)}),
        ("amount", {"step": 15}),
        ("amount", {"round": 12}),
        ("amount", {"round": 0}),
        ("amount", {"steps": None}),
        ("minimum_samples", {"rows": float("nan")}),
        ("limits", {"bytes": 101}),
        ("limits", {"step": 30, "steps": 40}),
        ("limits", {"bytes": None}),
        ("secure_aggregation", {"gathering": None}),
        ("secure_aggregation", {"gathering": {}}),
        ("transforms", {"transforms": None}),
    ],
)
def test_each_rule_says_no(rule: str, wrong: dict[str, Any]) -> None:
    said = {d.rule: d for d in decide(policy.rules(OWNER), facts(**wrong))}
    assert not said[rule].allowed
    assert said[rule].reason
    if not any(v is None or v in ("many", {}) for v in wrong.values()):  # facts that make sense
        key = (said[rule].remedy or "policy.standing").split(".")[-1].split()[0]  # some no setting allows
        assert key.removeprefix("limits.") in {f.name for c in (Policy, TaskLimits) for f in dataclasses.fields(c)}
    assert all(d.allowed for name, d in said.items() if name != rule)
    with pytest.raises(NotAllowed, match=rule):
        enforce(policy.rules(OWNER), facts(**wrong))


@pytest.mark.parametrize(
    ("owner", "asked", "said"),
    [
        ("node", {"algorithm": "statistics"}, ""),
        ("total", {}, ""),
        ("node", {}, "keeps its small cells back itself"),
        ("total", {"algorithm": "statistics"}, "could be taken off them"),
        ("total", {"gathering": {"agree": "plain", "sum": "plain"}}, "would see this node"),
        ("total", {"settings": {"secure_threshold": 3}}, "sets secure_threshold to 4"),
        ("total", {"settings": {"secure_threshold": 2}, "nodes": 2}, "wants at least 3"),
        ("total", {"gathering": {}}, "is missing"),
        ("total", {"algorithm": "unheard_of"}, "failed|unheard_of"),
    ],
)
def test_where_the_minimum_of_statistics_holds(owner: str, asked: dict[str, Any], said: str) -> None:
    total = {
        "algorithm": "statistics_on_total",
        "at_once": True,
        "gathering": {"agree": "plain", "sum": "secure"},
        "nodes": 4,
        "settings": {"secure_threshold": 4},
    }
    rule = find("policy", "statistics_minimum").RULE({**OWNER, "statistics_minimum": owner})
    [found] = decide([rule], facts(**{**total, **asked}))
    assert found.allowed == (not said)
    assert re.search(said, found.reason)


def test_no_facts_and_no_settings_allow_nothing() -> None:
    said = {
        d.rule: d.allowed for d in decide(policy.rules(OWNER), without(*(f.name for f in dataclasses.fields(Facts))))
    }
    assert said.pop("policy_file")  # an owner who has written none is not asked
    assert not any(said.values())
    said = {d.rule: d.allowed for d in decide(policy.rules({}), FINE)}
    assert said == {
        "approved_algorithms": False,
        "training_plans": True,
        "minimum_samples": False,
        "limits": False,
        "federated_analytics": True,
        "amount": True,
        "secure_aggregation": False,
        "statistics_minimum": True,
        "transforms": False,
        "differential_privacy": False,
        "policy_file": False,
    }
    with pytest.raises(NotAllowed, match="no rules"):
        enforce((), FINE)


def test_a_rule_with_its_settings_is_one_file(tmp_path: Path) -> None:
    """Put into the folder, it is asked at the gate, and its setting is in node.toml, checked and documented."""
    (tmp_path / "office_hours.py").write_text(
        "from hanse.rule import Decision\nfrom hanse.settings import Setting, whole\n"
        "SETTINGS = {'closed_days': Setting(('sunday',), 'no task on these days'), 'most': Setting(3, 'x', whole(2))}\n"
        "class RULE:\n    name = 'office_hours'\n    def __init__(self, policy): self.policy = policy\n"
        "    def decide(self, facts):\n"
        "        return Decision('monday' not in self.policy['closed_days'], self.name, 'closed')\n"
    )
    code = (
        "import asyncio, sys, hanse.policy\nfrom pathlib import Path\nhanse.policy.__path__.append(sys.argv[1])\n"
        "from hanse.errors import ConfigError\nfrom hanse.node.settings import NodeSettings\nimport dataclasses\n"
        "closed = NodeSettings('a').with_value('closed_days', 'monday')\n"
        "closed.save(Path(sys.argv[1]))\nassert NodeSettings.load(Path(sys.argv[1])) == closed\n"
        "assert 'closed_days = [\"monday\"]' in closed.to_toml()\n"
        "facts = {**dataclasses.asdict(closed.policy), 'message_bytes': 9, 'steps': 9}\n"
        "said = asyncio.run(hanse.policy.decide(hanse.policy.rules(facts), {}))\n"
        "assert [d.reason for d in said if d.rule == 'office_hours'] == ['closed']\n"
        "for key, value in (('most', '1'), ('closed_day', 'x')):\n"
        "    try:\n        closed.with_value(key, value)\n        raise SystemExit('no error')\n"
        "    except ConfigError as error:\n        print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "at least 2" in done.stdout
    assert "did you mean 'closed_days'" in done.stdout or "did you mean 'policy.closed_days'" in done.stdout


def test_settings_of_rules_are_documented_where_people_look() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "node.md").read_text()
    for name, setting in policy.settings().items():
        assert f"`policy.{name}`" in text
        assert setting.help


def test_what_the_owner_sets_counts() -> None:
    for change, known in (
        ({"allowed_algorithms": ["*"]}, {"algorithm": "forest"}),
        ({"allow_training_plans": True}, {"plan": True}),
        ({"minimum_samples": 1}, {"rows": 1}),
        ({"message_bytes": 1000}, {"bytes": 1000}),
        ({"steps": 40}, {"step": 30, "steps": 40}),
    ):
        with pytest.raises(NotAllowed):
            enforce(policy.rules(OWNER), facts(**known))
        enforce(policy.rules(OWNER | change), facts(**known))
    enforce(policy.rules(OWNER), facts(needs_data=False, rows=None))


def test_the_number_of_rows_is_in_no_reason() -> None:
    rule = find("policy", "minimum_samples").RULE(OWNER)
    assert "7" not in rule.decide(facts(rows=7)).reason


class Patient:
    """A rule that asks somebody else, and takes its time."""

    name = "patient"

    def __init__(self, seconds: float, says: Any = True) -> None:
        self.seconds, self.says = seconds, says

    async def decide(self, known: Facts) -> Decision:
        await asyncio.sleep(self.seconds)
        if isinstance(self.says, Exception):
            raise self.says
        return Decision(self.says, self.name)


class Together:
    """A rule that decides once so many of it have been asked."""

    name = "together"

    def __init__(self, parties: int) -> None:
        self.there = asyncio.Barrier(parties)

    async def decide(self, known: Facts) -> Decision:
        await self.there.wait()
        return Decision(True, self.name)


def test_rules_may_wait_and_wait_together() -> None:
    async def main() -> list[Decision]:
        async with asyncio.timeout(PATIENCE):
            return await policy.decide([Together(50)] * 50, FINE)

    assert all(d.allowed for d in asyncio.run(main()))
    assert not decide([Patient(0, False)], FINE)[0].allowed
    assert "RuntimeError" in decide([Patient(0, RuntimeError("stays here"))], FINE)[0].reason
    assert "stays here" not in decide([Patient(0, RuntimeError("stays here"))], FINE)[0].reason
    assert not decide([Patient(0, "yes")], FINE)[0].allowed


def test_a_rule_that_takes_too_long_says_no() -> None:
    [said] = asyncio.run(policy.decide([Patient(30)], FINE, seconds=0.05))
    assert not said.allowed
    assert "within 0.05 s" in said.reason


def test_a_fact_that_is_not_there_is_a_no_and_named() -> None:
    class Curious:
        name = "curious"

        def decide(self, known: Any) -> Decision:
            return Decision(bool(known.phase_of_the_moon), self.name)

    [said] = decide([Curious()], FINE)
    assert not said.allowed
    assert "'phase_of_the_moon' is missing" in said.reason
    with pytest.raises(TypeError):
        Facts(sender="coordinator")  # type: ignore[call-arg]
    with pytest.raises(dataclasses.FrozenInstanceError):
        FINE.step = 0  # type: ignore[misc]


def test_facts_of_another_task_of_a_run_differ_in_those_of_the_task_alone() -> None:
    own = {"step": 5, "exchange": 1, "operation": "mask", "combine": "each", "round": None, "bytes": 7, "time": now()}
    other = FINE.of_another(**own)
    assert other == dataclasses.replace(FINE, **own)
    assert (FINE.step, FINE.operation) == (4, "answer")


def test_the_least_that_a_simulation_asks_of_its_sites() -> None:
    there = policy.simulated({"minimum_cell": 3}, 2)
    assert there["minimum_cell"] == 3
    assert there["allow_federated_analytics"] is True
    assert policy.simulated({}, 1)["allow_node_statistics"] is True
    assert there["allow_node_statistics"] is False
    with pytest.raises(ConfigError, match="did you mean 'minimum_cell'"):
        policy.simulated({"minimum_cel": 3}, 2)
    with pytest.raises(ConfigError, match="expected"):
        policy.simulated({"minimum_cell": 0}, 2)


PROMISED = {"epsilon": 1.0, "delta": 1e-5, "unit": "site", "mode": "distributed", "releases": 10, "rho": 0.03}


@pytest.mark.parametrize(
    ("owner", "promised", "said"),
    [
        ({"require_differential_privacy": True}, None, "is not differentially private"),
        ({"max_epsilon_per_run": 2.0}, None, "is not differentially private"),
        ({"max_epsilon_per_run": 0.5}, PROMISED, "promises epsilon 1, and the owner of this node allows at most 0.5"),
        ({"max_epsilon_per_run": 2.0}, {**PROMISED, "epsilon": float("nan")}, "promises epsilon nan"),
        ({"max_delta_per_run": 1e-6}, PROMISED, "promises delta 1e-05"),
        ({"privacy_unit": "row"}, PROMISED, "private by unit site"),
        ({"privacy_mode": "local"}, PROMISED, "private by mode distributed"),
        ({"privacy_mode": "distributed"}, {**PROMISED, "mode": "central"}, "private by mode central"),
        ({"privacy_mode": "distributed"}, {**PROMISED, "mode": "local"}, ""),
        ({"max_epsilon_per_run": 1.0, "max_delta_per_run": 1e-5, "privacy_unit": "site"}, PROMISED, ""),
        ({}, None, ""),
    ],
)
def test_an_owner_may_demand_more_and_never_gets_less(owner: dict[str, Any], promised: Any, said: str) -> None:
    [decision] = (d for d in decide(policy.rules(OWNER | owner), facts(privacy=promised)) if "differential" in d.rule)
    assert decision.allowed is not bool(said)
    assert said in decision.reason
    if said and "nan" not in said:  # the remedy that the owner is told would allow it
        name, _, value = decision.remedy.partition(" ")
        known = policy.settings()[name]
        changed = OWNER | owner | {name: known.read(name, value)}
        assert all(d.allowed for d in decide(policy.rules(changed), facts(privacy=promised)))


class ByRule:
    """A rule that decides by a function of the facts, and counts how often it is asked."""

    name = "by rule"

    def __init__(self, decides: Any, reads: frozenset[str] | None = None) -> None:
        self.decides, self.asked = decides, 0
        if reads is not None:
            self.reads = reads

    def decide(self, facts: Facts) -> Any:
        self.asked += 1
        return self.decides(facts)


async def _later(facts: Facts) -> Decision:
    return Decision(facts.rows != 20, "later", "twenty rows")


def _of(node: str) -> Facts:
    """Of nodes with 10, 20 or 30 rows: their names begin so."""
    assert FINE.dataset is not None
    return facts(dataset=dataclasses.replace(FINE.dataset, name=node), rows=int(node[:2]))


DECIDES: dict[str, Any] = {
    "what is the same": lambda facts: Decision(facts.step == 4, "same", "another step"),
    "a no to all": lambda facts: Decision(facts.step != 4, "same", "this step"),
    "rows": lambda facts: Decision(facts.rows >= 20, "rows", "few rows"),
    "the data set": lambda facts: Decision(facts.dataset.name != "20 b", "set", "another one"),
    "the data set, of some": lambda facts: Decision(facts.rows != 30 or facts.dataset.name == "30 a", "set", "some"),
    "the class": lambda facts: Decision(isinstance(facts, Facts), "class", "no facts"),
    "all at once": lambda facts: Decision("20 b" not in str(dataclasses.asdict(facts)), "all", "that name"),
    "an error at some": lambda facts: Decision(1 / (facts.rows - 20) < 1, "error"),
    "a rule that waits": _later,
    "no decision": lambda facts: True,
}


READS = {  # all that each of them reads; those that are not here say too little
    "what is the same": {"step"},
    "a no to all": {"step"},
    "rows": {"rows"},
    "the data set": {"dataset"},
    "the data set, of some": {"dataset", "rows"},
    "an error at some": {"rows"},
    "a rule that waits": {"rows"},
}


@pytest.mark.parametrize("says", [False, True], ids=["says nothing of what it reads", "says what it reads"])
@pytest.mark.parametrize("name", DECIDES)
def test_nodes_that_are_asked_the_same_hear_what_each_would_by_itself(name: str, says: bool) -> None:
    nodes = ["10 a", "10 b", "20 a", "20 b", "30 a", "30 b"]
    rules = [*policy.rules(OWNER), ByRule(DECIDES[name], frozenset(READS.get(name, ())) if says else None)]

    async def each() -> dict[str, str]:
        found = {}
        for node in nodes:
            try:
                await policy.enforce(rules, _of(node))
            except NotAllowed as error:
                found[node] = error.message
        return found

    said = asyncio.run(policy.refused(rules, {node: int(node[:2]) for node in nodes}, _of))
    assert {node: error.message for node, error in said.items()} == asyncio.run(each())


def test_where_nothing_is_allowed_no_node_passes() -> None:
    said = asyncio.run(policy.refused([], {"10 a": 10, "10 b": 10}, _of))
    assert sorted(said) == ["10 a", "10 b"]
    assert asyncio.run(policy.refused([], {}, _of)) == {}


def test_what_does_not_differ_between_nodes_is_asked_once() -> None:
    same, rows = (ByRule(DECIDES[name], frozenset(READS[name])) for name in ("what is the same", "rows"))
    made = list[str]()

    def facts(node: str) -> Facts:
        made.append(node)
        return _of(node)

    assert not asyncio.run(policy.refused([same, rows], {f"{20 + n % 2} {n}": 20 + n % 2 for n in range(99)}, facts))
    assert (same.asked, rows.asked) == (1, 2)  # once, and once of each number of rows
    assert made == ["20 0", "21 1"]  # not for each rule


def test_the_rules_that_are_here_are_asked_once_for_nodes_of_as_many_rows() -> None:
    """One that does not say what it reads would be asked for each of thousands of sites, in every round."""
    made = list[str]()

    def facts(node: str) -> Facts:
        made.append(node)
        return dataclasses.replace(FINE, rows=20)

    assert not asyncio.run(policy.refused(policy.rules(OWNER), dict.fromkeys(map(str, range(99)), 20), facts))
    assert len(made) == 1
