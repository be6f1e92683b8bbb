"""The record of a step of many sites: the same as an object for each of them, without these objects."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hanse
from hanse.kinds import Answer
from hanse.messages import dumps, loads
from hanse.participants import AnswerColumns, NumberColumn, Participants

METRIC = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.none(), st.integers(-9, 9))
SAID = st.dictionaries(st.sampled_from(["loss", "auc", "n", "é"]), METRIC, max_size=3)


@given(
    st.dictionaries(st.text(max_size=4), st.tuples(st.floats(0, 1e9), SAID, st.integers(0, 99)), max_size=9),
    st.booleans(),
)
def test_it_is_what_a_dictionary_of_all_of_them_is(of: dict[str, Any], hidden: bool) -> None:
    nodes = sorted(of)
    answers = [Answer(node, of[node][0], {}, of[node][1], of[node][2]) for node in nodes]
    found = Participants(nodes, answers, [float(i) for i in range(len(nodes))], hidden)
    wanted = {
        a.node: {
            "weight": None if hidden else a.weight,
            "metrics": dict(a.metrics),
            "asked": a.asked,
            "seconds": float(i),
        }
        for i, a in enumerate(answers)
    }
    assert dict(found) == wanted
    assert list(found) == list(wanted)
    assert loads(dumps(found)) == loads(dumps(wanted))
    assert dict(copy.deepcopy(found)) == wanted
    for strange in ("none of these", 3):
        assert strange not in found
        with pytest.raises(KeyError):
            found[strange]  # type: ignore[index]


@given(st.lists(st.tuples(st.text(max_size=4), st.floats(0, 1e9), SAID, st.integers(0, 99), st.floats(0, 1e9))))
def test_answers_in_columns_are_what_was_answered(of: list[Any]) -> None:
    given = [Answer(node, weight, {"n": i}, said, at, most) for i, (node, weight, said, at, most) in enumerate(of)]
    found = AnswerColumns(given)
    assert list(found) == given
    assert [found[i] for i in range(-len(given), len(given))] == given * 2
    assert found[1:3] == given[1:3]
    for answer, other in zip(found, given, strict=True):
        assert [type(value) for value in answer.metrics.values()] == [type(v) for v in other.metrics.values()]
    with pytest.raises(IndexError):
        found[len(given)]


@given(st.lists(st.sampled_from([0.0, 1.0, 2.5]), max_size=9))
def test_a_column_is_the_numbers_that_were_added(of: list[float]) -> None:
    found = NumberColumn("d")
    for number in of:
        found.append(number)
    assert list(found) == of
    assert found[1:3] == of[1:3]
    assert [found[i] for i in range(-len(of), len(of))] == of * 2
    assert found.nbytes == 8 * (len(of) if len(set(of)) > 1 else min(1, len(of)))
    with pytest.raises(IndexError):
        found[len(of)]


def test_metrics_that_many_say_are_kept_once() -> None:
    found = AnswerColumns(Answer(f"n{i}", 1.0, {}, {"loss": 0.5, "n": float(i // 500)}, 1) for i in range(1000))
    assert len(found.metrics._values) == 4
    assert [a.metrics["n"] for a in found] == [float(i // 500) for i in range(1000)]


def test_a_run_of_many_sites_keeps_few_bytes_for_each_and_all_that_is_read_of_them(tmp_path: Path) -> None:
    rows = {"x": np.random.default_rng(0).normal(size=2000), "y": ["a", "b"] * 1000}
    sites = hanse.virtual_sites(rows, 300, rows_each=20)
    asked: dict[str, Any] = {"target": "y", "sample_id_column": None, "rounds": 1, "fraction": 0.1}
    with hanse.simulate(sites) as federation:
        result = federation.experiment("sgd_classifier", **asked).run(progress=False)
    whole = [step for step in result.rounds if len(step.participants) == 300]
    assert len(whole) > 1
    for step in whole:
        kept = step.participants
        assert isinstance(kept, Participants)
        assert kept.nbytes < 300 * 150
        assert kept["site-007"]["seconds"] > 0
    assert {p["metrics"]["n"] for p in whole[-1].participants.values()} == {15.0}
    again = hanse.load_result(result.save(tmp_path / "r.hanse"))
    assert [dict(s.participants) for s in again.rounds] == [dict(s.participants) for s in result.rounds]
