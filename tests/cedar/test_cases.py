"""Tables of cases: read from three formats, and wrong ones are errors that say what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hanse.cedar.cases import outcomes, read_cases
from hanse.cedar.policies import Policies
from hanse.cli import group
from hanse.errors import ConfigError, Conflict
from hanse.policy.policy_file import VOCABULARY

TEXT = """@id("yes") permit (principal == Person::"ada", action, resource);
@id("small") forbid (principal, action, resource) unless { context has rows && context.rows >= 50 };
@id("much") forbid (principal, action, resource)
when { context has privacy && context.privacy.epsilon.greaterThan(decimal("2.0")) };
@id("late") forbid (principal, action, resource) when { context.time.hour > 18 };
"""
YAML = """
given: {action: answer, proposer: ada, rows: 50, time: "2026-11-30T12:00Z"}
cases:
  - {name: fine, expect: allow, by: yes}
  - {name: few, expect: deny, by: [small], facts: {rows: 49}}
  - {name: much, expect: deny, by: "much, small", facts: {rows: null, privacy: {epsilon: 3.0}}}
  - {name: another, expect: deny, by: [], person: eve}
  - {name: late, expect: deny, facts: {time: 2026-11-30T20:00:00+01:00}}
""".replace("by: yes", 'by: "yes"')
CSV = """name,action,expect,by,proposer,rows,privacy.epsilon,time,person
given,answer,,,ada,50,,2026-11-30T12:00Z,
fine,,allow,yes,,,,,
few,,deny,small,,49,,,
much,,deny,"much, small",,null,3.0,,
another,,deny,,,,,,eve
late,,deny,,,,,2026-11-30T20:00+01:00,
"""


def written(tmp_path: Path, name: str) -> Path:
    import yaml

    text = {"yaml": YAML, "csv": CSV, "json": json.dumps(yaml.safe_load(YAML), default=str)}[name]
    (tmp_path / f"cases.{name}").write_text(text)
    (tmp_path / "rules.cedar").write_text(TEXT)
    return tmp_path / f"cases.{name}"


@pytest.mark.parametrize("kind", ["yaml", "json", "csv"])
def test_each_format_says_the_same(tmp_path: Path, kind: str) -> None:
    said = list(outcomes(Policies({"a": TEXT}, VOCABULARY), read_cases(written(tmp_path, kind), VOCABULARY)))
    assert [one.case.name for one in said] == ["fine", "few", "much", "another", "late"]
    assert [one.wrong for one in said if kind != "csv" or one.case.name != "another"] == [""] * (5 - (kind == "csv"))


def test_what_is_not_as_the_table_says_is_told(tmp_path: Path) -> None:
    cases = written(tmp_path, "yaml")
    cases.write_text(YAML.replace("name: fine, expect: allow", "name: fine, expect: deny").replace("[small]", "[late]"))
    said = [one.wrong for one in outcomes(Policies({"a": TEXT}, VOCABULARY), read_cases(cases, VOCABULARY))]
    assert said[:2] == ["it is allowed", "it is decided by small, not by late"]
    done = CliRunner().invoke(group, ["policy", "test", str(tmp_path / "rules.cedar"), str(cases)])
    assert done.exit_code == 1
    assert "WRONG fine: it is allowed" in done.output
    assert "3 of 5 cases as expected; 4 policies" in done.output


def test_the_command_names_policies_that_no_case_is_decided_by(tmp_path: Path) -> None:
    cases = written(tmp_path, "yaml")
    cases.write_text("\n".join(line for line in YAML.splitlines() if "late" not in line and "much" not in line))
    done = CliRunner().invoke(group, ["policy", "test", "--json", str(tmp_path / "rules.cedar"), str(cases)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["without_a_case"] == ["late", "much"]
    assert [row["by"] for row in told["cases"]] == [["yes"], ["small"], []]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("rows: 49", "rowz: 49"), "no setting 'rowz' of the action answer, in case 'few'; did you mean 'rows'"),
        (("given: {action", "given: {acton: 1, action"), "'acton' of cases.yaml, under given; did you mean 'action'"),
        (("rows: 50, ", ""), "case 'fine' .*"),
        (('time: "2026-11-30T12:00Z"', "nodes: 3"), "case 'fine' says nothing of 'time', which policies read"),
        (("rows: 49", "rows: many"), "case 'few' has a fact that is not of its type"),
        (("action: answer", "action: anwser"), "action is 'anwser'; expected one of answer"),
        (("name: fine, expect: allow", "name: fine, expect: perhaps"), "expect is 'perhaps'; expected allow or deny"),
        (("name: fine, ", ""), "a case has no name"),
        (("12:00Z", "noon"), "is no time"),
        (("cases:", "casez:"), "expected an object of given and cases"),
        (("cases:", "cases: {"), "is no table of cases"),
        (("action: answer", "action: [answer]"), "expected one of answer"),
        (("name: fine, expect: allow", "name: fine, expect: [allow]"), "expected allow or deny"),
        (("by: [small]", "by: 3"), "by is 3; expected the names of policies"),
        (("rows: 50", "rows: !!python/object/apply:os.system ['true']"), "is no table of cases"),
    ],
)
def test_what_is_wrong_in_a_table_is_said(tmp_path: Path, wrong: tuple[str, str], said: str) -> None:
    cases = written(tmp_path, "yaml")
    assert wrong[0] in YAML
    cases.write_text(YAML.replace(*wrong))
    if said == "case 'fine' .*":  # rows may be absent: then it is absent
        found = list(outcomes(Policies({"a": TEXT}, VOCABULARY), read_cases(cases, VOCABULARY)))
        assert found[0].by == ("small",)
        return
    with pytest.raises(ConfigError, match=said):
        list(outcomes(Policies({"a": TEXT}, VOCABULARY), read_cases(cases, VOCABULARY)))


@pytest.mark.parametrize(
    ("kind", "text"), [("yaml", "cases: []"), ("json", '{"given": {}, "cases": []}'), ("csv", "name,expect\n")]
)
def test_a_table_without_a_case_is_none(tmp_path: Path, kind: str, text: str) -> None:
    """Or a test of policies that tests nothing would be passed."""
    (tmp_path / f"cases.{kind}").write_text(text)
    with pytest.raises(ConfigError, match="there are no cases"):
        read_cases(tmp_path / f"cases.{kind}", VOCABULARY)


def test_a_table_that_is_too_large_or_says_one_fact_twice_is_said(tmp_path: Path) -> None:
    cases = tmp_path / "cases.csv"
    cases.write_text("name,action,expect,privacy,privacy.epsilon\nx,answer,allow,1,2\n")
    with pytest.raises(ConfigError, match="'privacy', which has a column and a value of its own"):
        read_cases(cases, VOCABULARY)
    cases.write_bytes(b"name,action,expect\n" + b"x,answer,allow\n" * 300_000)  # it was cut, and all was well
    with pytest.raises(ConfigError, match="has over 4 MB"):
        read_cases(cases, VOCABULARY)


@pytest.mark.parametrize("place", ["node", "coordinator", "service"])
def test_shipped_policies_are_copied_and_pass_their_cases(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "mine"
    done = CliRunner().invoke(group, ["policy", "copy", "--at", place, str(folder)])
    assert done.exit_code == 0, done.output
    told = CliRunner().invoke(group, ["policy", "test", "--at", place, str(folder), str(folder / "cases.yaml")])
    assert told.exit_code == 0, told.output
    again = CliRunner().invoke(group, ["policy", "copy", "--at", place, str(folder)])
    assert isinstance(again.exception, Conflict)
