"""Each rule says yes, no, and no when it cannot know."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hanse import policy
from hanse.errors import NotAllowed
from hanse.node.settings import Limits, Policy
from hanse.registry import find, names

OWNER: dict[str, Any] = {
    "allowed_algorithms": ["fedavg", "probe"],
    "allow_training_plans": False,
    "minimum_samples": 10,
    "minimum_count": 5,
    "message_bytes": 100,
    "steps": 5,
    "allow_single_contributions": True,
    "transforms": [],
}
FINE: dict[str, Any] = {
    "sender": "coordinator",
    "run": "r",
    "bundle": "b",
    "op": "answer",
    "algorithm": "fedavg",
    "model": "m",
    "plan": False,
    "needs_data": True,
    "rows": 10,
    "bytes": 100,
    "step": 4,
    "features": ["a"],
    "nodes": 2,
    "gathering": {"sum": "plain"},
    "transforms": [],
}


def test_all_rules_allow_what_is_fine() -> None:
    rules = policy.rules(OWNER)
    assert {r.name for r in rules} == set(names("policy"))  # file and rule have one name
    assert all(d.allowed for d in policy.decide(rules, FINE))
    policy.enforce(rules, FINE)


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
        ("minimum_samples", {"rows": float("nan")}),
        ("limits", {"bytes": 101}),
        ("limits", {"step": 5}),
        ("limits", {"step": -1}),
        ("limits", {"bytes": None}),
        ("single_contributions", {"gathering": None}),
        ("single_contributions", {"gathering": {}}),
        ("transforms", {"transforms": None}),
    ],
)
def test_each_rule_says_no(rule: str, wrong: dict[str, Any]) -> None:
    said = {d.rule: d for d in policy.decide(policy.rules(OWNER), FINE | wrong)}
    assert not said[rule].allowed
    assert said[rule].reason
    if (
        not {None, "many"} & {v for v in wrong.values() if not isinstance(v, dict)} and {} not in wrong.values()
    ):  # facts that make sense
        key = said[rule].remedy.split()[0]
        assert key.removeprefix("limits.") in {f.name for c in (Policy, Limits) for f in dataclasses.fields(c)}
    assert all(d.allowed for name, d in said.items() if name != rule)
    with pytest.raises(NotAllowed, match=rule):
        policy.enforce(policy.rules(OWNER), FINE | wrong)


def test_no_facts_and_no_settings_allow_nothing() -> None:
    assert not any(d.allowed for d in policy.decide(policy.rules(OWNER), {}))
    said = {d.rule: d.allowed for d in policy.decide(policy.rules({}), FINE)}
    assert said == {
        "approved_algorithms": False,
        "training_plans": True,
        "minimum_samples": False,
        "limits": False,
        "federated_analytics": True,
        "single_contributions": False,
        "transforms": False,
    }
    with pytest.raises(NotAllowed, match="no rules"):
        policy.enforce((), FINE)


def test_a_rule_with_its_settings_is_one_file(tmp_path: Path) -> None:
    """Put into the folder, it is asked at the gate, and its setting is in node.toml, checked and documented."""
    (tmp_path / "office_hours.py").write_text(
        "from hanse.kinds import Decision\nfrom hanse.settings import Setting, whole\n"
        "SETTINGS = {'closed_days': Setting(('sunday',), 'no task on these days'), 'most': Setting(3, 'x', whole(2))}\n"
        "class RULE:\n    name = 'office_hours'\n    def __init__(self, policy): self.policy = policy\n"
        "    def decide(self, facts):\n"
        "        return Decision('monday' not in self.policy['closed_days'], self.name, 'closed')\n"
    )
    code = (
        "import sys, hanse.policy\nfrom pathlib import Path\nhanse.policy.__path__.append(sys.argv[1])\n"
        "from hanse.errors import ConfigError\nfrom hanse.node.settings import Settings\nimport dataclasses\n"
        "closed = Settings('a').with_value('closed_days', 'monday')\n"
        "closed.save(Path(sys.argv[1]))\nassert Settings.load(Path(sys.argv[1])) == closed\n"
        "assert 'closed_days = [\"monday\"]' in closed.to_toml()\n"
        "facts = {**dataclasses.asdict(closed.policy), 'message_bytes': 9, 'steps': 9}\n"
        "said = hanse.policy.decide(hanse.policy.rules(facts), {})\n"
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
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    for name, setting in policy.settings().items():
        assert f"`policy.{name}`" in text
        assert setting.help


def test_what_the_owner_sets_counts() -> None:
    for change, facts in (
        ({"allowed_algorithms": ["*"]}, {"algorithm": "forest"}),
        ({"allow_training_plans": True}, {"plan": True}),
        ({"minimum_samples": 1}, {"rows": 1}),
        ({"message_bytes": 1000}, {"bytes": 1000}),
        ({"steps": 10}, {"step": 9}),
    ):
        with pytest.raises(NotAllowed):
            policy.enforce(policy.rules(OWNER), FINE | facts)
        policy.enforce(policy.rules(OWNER | change), FINE | facts)
    policy.enforce(policy.rules(OWNER), FINE | {"needs_data": False, "rows": None})


def test_the_number_of_rows_is_in_no_reason() -> None:
    rule = find("policy", "minimum_samples").RULE(OWNER)
    assert "7" not in rule.decide(FINE | {"rows": 7}).reason
