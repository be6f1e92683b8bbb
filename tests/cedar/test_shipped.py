"""The policies that Hanse ships say what their tables say, and each change of one of them is caught by its table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from mutants import mutants

from hanse import cedar
from hanse.cedar.cases import outcomes, read_cases
from hanse.cedar.files import read
from hanse.cedar.policies import Policies
from hanse.cedar.vocabulary import Vocabulary
from hanse.coordinator.governance import VOCABULARY as AT_COORDINATOR
from hanse.coordinator.policy_service import VOCABULARY as SERVED
from hanse.errors import ConfigError
from hanse.policy.policy_file import VOCABULARY as AT_NODE
from hanse.registry import names

SHIPPED = Path(cedar.__file__).parent / "shipped"
PLACES = {"node": AT_NODE, "coordinator": AT_COORDINATOR, "service": SERVED}
of_each = pytest.mark.parametrize(("place", "vocabulary"), PLACES.items(), ids=PLACES)


@of_each
def test_they_say_what_their_table_says_and_each_decides_a_case(place: str, vocabulary: Vocabulary) -> None:
    policies = read(SHIPPED / place, vocabulary)
    said = list(outcomes(policies, read_cases(SHIPPED / place / "cases.yaml", vocabulary)))
    assert [f"{one.case.name}: {one.wrong}" for one in said if one.wrong] == []
    decided = Counter(name for one in said for name in one.by)
    assert set(decided) == {policy.name for policy in policies.policies.values()}
    assert all(policy.says for policy in policies.policies.values() if not policy.permits)
    assert len({one.case.name for one in said}) == len(said) >= 33


def test_there_are_enough_cases() -> None:
    assert sum(len(read_cases(SHIPPED / place / "cases.yaml", known)) for place, known in PLACES.items()) >= 100


@of_each
def test_every_change_of_one_of_them_is_caught(place: str, vocabulary: Vocabulary) -> None:
    texts = {path.name: path.read_text() for path in sorted((SHIPPED / place).glob("*.cedar"))}
    cases = read_cases(SHIPPED / place / "cases.yaml", vocabulary)
    missed, tried = [], 0
    for file, text in texts.items():
        for what, changed in mutants(text):
            tried += 1
            try:
                policies = Policies({**texts, file: changed}, vocabulary)
                caught = next((one.case for one in outcomes(policies, cases) if one.wrong), None)
            except ConfigError:  # it cannot be read: nobody can use it
                continue
            if caught is None:
                missed.append(what)
            else:  # it may catch the next, which is much like this one
                cases.remove(caught)
                cases.insert(0, caught)
    assert tried > 60
    assert missed == []


def test_what_they_name_is_there() -> None:
    [policy] = [p for p in read(SHIPPED / "node", AT_NODE).policies.values() if p.name == "allowed-algorithms"]
    named = [name.strip(" ,") for name in policy.says.removeprefix("this node answers ").split() if name != "and"]
    assert set(named) - {"this", "node", "answers"} <= set(names("algorithms"))
