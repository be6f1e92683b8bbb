"""Selection by policies in Cedar: who is permitted is drawn from, the others are named with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import hanse
from hanse.choice import Past, Situation
from hanse.errors import ConfigError, RunFailed
from hanse.selection import by_policy

ROTATING = """
@id("rested") @says("a node rests for two rounds")
permit (principal, action == Action::"choose", resource)
unless { context has rounds_ago && context.rounds_ago <= 2 };
"""
PERMIT = '@id("fine") permit (principal, action, resource)'
SITES = [f"site-{i}" for i in range(6)]


def situation(text: str, past: Any = (), facts: Any = None, count: int = 2) -> Situation:
    return Situation(SITES, count, np.random.default_rng(0), facts or {}, past, {"selection_policy": text})


def asked(step: int, *nodes: str, failed: str = "", **metrics: float) -> Past:
    answered = {n: {"weight": 40.0, "seconds": 0.5, **metrics} for n in nodes if n != failed}
    return Past(step, step + 1, "train", nodes, answered, {failed: "lost its connection"} if failed else {})


def test_only_who_is_permitted_is_drawn_and_the_others_are_named() -> None:
    facts = {"site-1": {"cpus": 8, "gpu": True}, "site-4": {"cpus": 4, "gpu": False}, "site-5": {"gpu": "yes"}}
    text = '@id("strong") permit (principal, action, resource) when { context has cpus && context.cpus >= 4 };'
    found = by_policy.choose(situation(text, facts=facts))
    assert found.nodes == ["site-1", "site-4"]
    assert found.reasons == {"site-1": "permitted by strong", "site-4": "permitted by strong"}
    assert set(found.left_out) == {"site-0", "site-2", "site-3", "site-5"}
    assert "nothing permits it (there are the permits strong)" in found.left_out["site-0"]
    card = '@id("card") @says("no graphics cards") forbid (principal, action, resource)'
    both = text + card + "when { context has gpu && context.gpu };"
    found = by_policy.choose(situation(both, facts=facts))
    assert found.nodes == ["site-4"]
    assert "forbidden by policy 'card' (no graphics cards)" in found.left_out["site-1"]
    nobody = by_policy.choose(situation(text))
    assert (list(nobody.nodes), nobody.reason.split(" that")[0]) == ([], "0 at random of the 0 of 6")


def test_what_happened_before_can_be_asked() -> None:
    past = [asked(0, "site-0", "site-1", loss=0.7), asked(1, "site-2", "site-3", failed="site-3", loss=0.2)]
    assert set(by_policy.choose(situation(ROTATING, past, count=6)).nodes) == {"site-4", "site-5"}
    past.append(asked(2, "site-4"))
    assert set(by_policy.choose(situation(ROTATING, past, count=6)).nodes) == {"site-0", "site-1", "site-5"}
    worst = PERMIT + 'when { context has loss && context.loss.greaterThan(decimal("0.5")) };'
    assert by_policy.choose(situation(worst, past, count=6)).nodes == ["site-0", "site-1"]
    failed = PERMIT + "when { context.failures == 0 && context.asked == context.answered };"
    assert "site-3" not in by_policy.choose(situation(failed, past, count=6)).nodes


class Read(list[Past]):
    """A past that counts how often it is read."""

    times = 0

    def __iter__(self) -> Iterator[Past]:
        self.times += 1
        return super().__iter__()


def test_the_past_is_read_no_more_often_for_more_nodes() -> None:
    def times(nodes: int) -> int:
        past, names = Read([asked(0, "site-0", loss=0.7)]), [f"site-{i}" for i in range(nodes)]
        told = {"selection_policy": PERMIT + ";"}
        by_policy.choose(Situation(names, 2, np.random.default_rng(0), {}, past, told))
        return past.times

    assert times(200) == times(3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "selection_policy is empty"),
        ("permit(", "cannot be read as Cedar policies"),
        ("permit (principal, action, resource);", "give each a name"),
        ('@id("x") permit (principal, action, resource) when { context.los > 1 };', "ask for what there is not"),
        ('@id("x") permit (principal, action, resource) when { context.cpus > 1 };', "ask for what there is not"),
        ('@id("x") forbid (principal, action, resource);', "no policy permits anything"),
    ],
)
def test_policies_that_are_none_are_said_at_the_proposal(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        learn(text)


def learn(text: str) -> Any:
    rng = np.random.default_rng(1)
    tables = {}
    for name in SITES:
        x = rng.normal(size=60)
        tables[name] = {"x": x, "y": np.where(x + rng.normal(size=60) > 0, "a", "b").tolist()}
    with hanse.simulate(tables, seed=3) as federation:
        return federation.experiment(
            model="sgd_classifier",
            target="y",
            sample_id_column=None,
            rounds=6,
            fraction=0.34,
            selection="by_policy",
            selection_policy=text,
        ).run(progress=False)


def test_a_run_takes_turns_by_policy() -> None:
    """Two of six a round, each resting for two rounds: everybody is asked twice in six rounds."""
    result = learn(ROTATING)
    rounds = [step for step in result.rounds if step.round is not None]
    assert [len(step.asked) for step in rounds] == [2] * 6
    times = [sum(name in step.asked for step in rounds) for name in SITES]
    assert times == [2] * 6
    assert all("permitted by rested" in said for said in rounds[2].chosen["reasons"].values())
    assert len(rounds[2].chosen["left_out"]) == 4
    assert "nothing permits it" in next(iter(rounds[2].chosen["left_out"].values()))


def test_a_policy_that_permits_nobody_ends_the_run_with_the_reason() -> None:
    text = '@id("none") permit (principal, action, resource) when { context.asked > 5 };'
    with pytest.raises(RunFailed, match="chose nobody"):
        learn(text)
