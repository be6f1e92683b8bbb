"""Policies say no wherever they cannot say yes, and name which of them said it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hanse.cedar.policies import Policies, Ruling
from hanse.cedar.vocabulary import Vocabulary
from hanse.errors import ConfigError
from hanse.facts import Facts
from tests.policy.some_facts import facts, without

NODE = Vocabulary({"answer": Facts})
RESEARCH = '@id("research") permit (principal, action, resource) when { context.purpose like "*test*" };\n'
SMALL = '@id("small") @says("at least 50 rows") forbid (principal, action, resource)\n'
SMALL += "unless { context has rows && context.rows >= 50 };\n"


def read(text: str) -> Policies:
    return Policies({"a.cedar": text}, NODE)


def decide(text: str, known: Facts | None = None, **changes: Any) -> Ruling:
    known = facts(**changes) if known is None else known
    return read(text).decide("answer", known.proposer, known.run, known)


# ---------------------------------------------------------------- yes and no


def test_what_a_permit_fits_and_no_forbid_is_allowed_by_its_name() -> None:
    said = decide(RESEARCH + SMALL, rows=50)
    assert (said.allowed, said.by, said.reason) == (True, ("research",), "")
    assert len(said.version) == 12


def test_a_forbid_counts_more_than_any_permit_and_is_named() -> None:
    said = decide(RESEARCH + SMALL, rows=49)
    assert (said.allowed, said.by) == (False, ("small",))
    assert said.reason == "forbidden by policy 'small' (at least 50 rows)"
    assert "49" not in said.reason


def test_what_no_permit_fits_is_refused_with_what_there_is() -> None:
    said = decide(RESEARCH, purpose="marketing")
    assert not said.allowed
    assert said.reason == "nothing permits it (there are the permits research)"


def test_a_forbid_that_cannot_be_evaluated_is_a_no_and_not_passed_over() -> None:
    """In Cedar itself the error of a forbid leaves the permit standing."""
    cedarpy = pytest.importorskip("cedarpy")
    overflowing = '@id("most") forbid (principal, action, resource) when { context.bytes * 4 > 1000 };\n'
    huge = (1 << 62) + 1
    said = decide(RESEARCH + overflowing, bytes=huge)
    assert not said.allowed
    assert said.reason == "policy 'most' could not be evaluated, which counts as a no"
    assert decide(RESEARCH + overflowing, bytes=100).allowed
    request = {"principal": 'Person::"a"', "action": 'Action::"answer"', "resource": 'Run::"r"'}
    bare = cedarpy.is_authorized({**request, "context": {"purpose": "test", "bytes": huge}}, RESEARCH + overflowing, [])
    assert bare.allowed  # which is why the errors are looked at


def test_who_asks_and_which_run_can_be_named() -> None:
    text = '@id("ada") permit (principal == Person::"Ada", action == Action::"answer", resource == Run::"r");'
    assert decide(text).allowed
    assert not decide(text, proposer="Eve").allowed
    assert not decide(text, run="r2").allowed
    for odd in ('Ada"', "Ada\n", 'Ada", action, resource); //', "", "\x00"):
        assert not decide(text, proposer=odd).allowed


def test_decisions_that_were_taken_hold_only_for_equal_facts() -> None:
    policies = read(RESEARCH + SMALL + '@id("night") forbid (principal, action, resource) when { context.step > 8 };')
    for _ in range(2):
        for rows, step, allowed in ((50, 1, True), (49, 1, False), (50, 9, False), (50, 1, True)):
            known = facts(rows=rows, step=step, steps=99)
            assert policies.decide("answer", "Ada", "r", known).allowed is allowed


def test_facts_that_no_policy_names_do_not_make_a_new_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    policies, asked = read(RESEARCH), []
    evaluated = Policies._evaluated
    monkeypatch.setattr(Policies, "_evaluated", lambda self, *key: asked.append(key) or evaluated(self, *key))
    for step in range(10):
        assert policies.decide("answer", "Ada", "r", facts(step=step, bytes=step)).allowed
    assert len(asked) == 1


def test_a_name_may_be_written_in_any_way_that_cedar_reads() -> None:
    text = RESEARCH.replace("context.purpose", 'context["purpos\\u{65}"]')
    assert decide(text).allowed
    assert not decide(text, purpose="x").allowed


def test_a_fact_that_is_missing_or_of_another_type_is_no_yes() -> None:
    policies = read(RESEARCH)
    with pytest.raises(AttributeError, match="purpose"):
        policies.decide("answer", "Ada", "r", without("purpose"))
    with pytest.raises(TypeError):
        policies.decide("answer", "Ada", "r", facts(purpose=7))


# ---------------------------------------------------------------- what is an error when they are read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RESEARCH.replace("purpose", "purpos"), "research: .*purpos.*not found"),
        (RESEARCH + SMALL.replace("context has rows && ", ""), "small: .*rows"),  # may be absent
        *[
            (RESEARCH + f'@id("typo") forbid (principal, {action}, resource) when {{ {condition} }};', f"typo: {said}")
            for action, condition, said in (  # to Cedar each is sound, and forbids nothing
                (
                    "action",
                    "context has rowz && context.rowz < 9",
                    "context.rowz is not found; did you mean context.rows.$",
                ),
                ("action", "context has rowz || context.nodes < 3", "context.rowz is not found"),
                (
                    'action == Action::"answer"',
                    "context has privacy && context.privacy has epsilom",
                    "context.privacy.epsilom is not found; did you mean context.privacy.epsilon",
                ),
                (
                    "action",
                    'principal has role && principal.role == "x"',
                    "principal.role is not found; there are none",
                ),
                ("action", "(if context.nodes > 3 then context else context) has rowz", r"\.\.\..rowz is not found"),
            )
        ],
        (RESEARCH.replace("action,", 'action == Action::"anwser",'), "anwser"),
        (RESEARCH.replace("principal,", 'principal == User::"a",'), "User"),
        (RESEARCH.replace("*test*", '*test*" || context.rounds == "10'), "research: .*String"),
        (RESEARCH.replace('@id("research") ', ""), "a policy .permit. is called ''; give each a name"),
        (RESEARCH.replace("research", "re\\nsearch"), "give each a name"),
        (RESEARCH + RESEARCH, "two policies are called research"),
        (SMALL, "no policy permits anything"),
        ("", "no policy permits anything"),
        (RESEARCH + "permit (", "a.cedar cannot be read as Cedar"),
        (RESEARCH.replace("principal,", "principal == ?principal,"), "templates"),
    ],
)
def test_what_is_wrong_in_a_policy_is_an_error_when_it_is_read(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(text)


def test_the_version_follows_from_the_texts() -> None:
    one = Policies({"a.cedar": RESEARCH, "b.cedar": SMALL}, NODE)
    assert one.version == Policies({"b.cedar": SMALL, "a.cedar": RESEARCH}, NODE).version
    assert one.version != Policies({"a.cedar": RESEARCH, "b.cedar": SMALL.replace("50", "51")}, NODE).version
    assert one.version != Policies({"a.cedar": RESEARCH + SMALL}, NODE).version


def test_without_cedar_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['cedarpy'] = None\n"
        "from hanse.policy import rules\n"
        "try:\n    rules({'policy_file': 'x.cedar'})\n"
        "except Exception as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'hanse[policy]'" in done.stdout or "cannot be read" in done.stdout


def test_a_question_that_was_asked_is_not_put_together_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: contexts that are made, and evaluations."""
    kept = Policies(
        {"p": '@id("all") permit (principal, action, resource) when { context.bytes < 10 && context.time.hour >= 0 };'},
        NODE,
    )
    made = [0, 0]
    context, evaluated = kept.used.context, kept._evaluated

    def counted(*given: Any) -> Any:
        made[0] += 1
        return context(*given)

    def evaluating(*given: Any) -> Any:
        made[1] += 1
        return evaluated(*given)

    monkeypatch.setattr(kept.used, "context", counted)
    monkeypatch.setattr(kept, "_evaluated", evaluating)
    for step in range(50):
        assert kept.decide("answer", "Ada", "r", facts(bytes=5, step=step)).allowed
        assert not kept.decide("answer", "Ada", "r", facts(bytes=50, step=step)).allowed
    assert made == [2, 2]
    with pytest.raises(TypeError):
        kept.decide("answer", "Ada", "r", facts(bytes=5.0))  # equal to five, and no whole number
