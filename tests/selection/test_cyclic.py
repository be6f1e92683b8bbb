"""Cyclic transfer: one site a round, in turn, from where the last one left the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hanse
from hanse.choice import Past, Situation
from hanse.selection import cyclic


def sites() -> dict[str, dict[str, Any]]:
    found = {}
    for number, name in enumerate(("ulm", "bonn", "kiel")):
        rng = np.random.default_rng(number)
        x = rng.normal(size=80)
        found[name] = {"x": x, "y": np.where(x + rng.normal(size=80) > 0, "ill", "well")}
    return found


def test_the_parameters_go_from_site_to_site() -> None:
    given: dict[str, Any] = {"model": "logistic_regression", "target": "y", "sample_id_column": None, "seed": 3}
    given |= {"federated_strategy": "fedavg", "test_fraction": 0.0, "local_epochs": 2}
    with hanse.simulate(sites()) as federation:
        result = federation.experiment(**given, rounds=5, selection="cyclic", fraction=0.3, evaluate_every=0).run(
            progress=False
        )
        asked = [step.asked for step in result.rounds if step.round is not None]
        assert asked == [["bonn"], ["kiel"], ["ulm"], ["bonn"], ["kiel"]]
        assert {step.chosen["reason"] for step in result.rounds if step.round is not None} == {"1 of 3, in turn"}
        # the first round is one of bonn alone, with the scale of all
        one = federation.experiment(**given, rounds=1, selection="cyclic", fraction=0.3, evaluate_every=0)
        alone = one.run(progress=False)
        assert [step.participants.keys() for step in alone.rounds if step.round] == [{"bonn"}]


@pytest.mark.parametrize(
    ("asked", "count", "expected"),
    [
        ([], 1, ["a"]),
        (["a"], 1, ["b"]),
        (["e"], 1, ["a"]),
        (["b", "c"], 2, ["d", "e"]),
        (["d", "e"], 2, ["a", "b"]),
        (["a", "e"], 2, ["b", "c"]),  # round the end
        (["a", "b", "e"], 3, ["a", "c", "d", "e"][1:]),
        (["gone"], 2, ["a", "b"]),
    ],
)
def test_who_follows_whom(asked: list[str], count: int, expected: list[str]) -> None:
    past = [Past(3, 1, "train", asked, {}, {}), Past(4, None, "evaluate", list("abcde"), {}, {})] if asked else []
    chosen = cyclic.choose(Situation(list("abcde"), count, np.random.default_rng(0), {}, past))
    assert list(chosen.nodes) == expected
