"""The record of a step of many sites: the same as an object for each of them, without these objects."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hanse
from hanse.kinds import Answer
from hanse.messages import dumps, loads
from hanse.participants import Participants

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
        assert (
            sum(sys.getsizeof(getattr(kept, name)) for name in Participants.__slots__ if name != "_nodes") < 300 * 100
        )
        assert kept["site-007"]["seconds"] > 0
    assert {p["metrics"]["n"] for p in whole[-1].participants.values()} == {15.0}
    again = hanse.load_result(result.save(tmp_path / "r.hanse"))
    assert [dict(s.participants) for s in again.rounds] == [dict(s.participants) for s in result.rounds]
