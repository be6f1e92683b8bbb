"""What is checked of single contributions: whose layout is another one, whoever that is among however many."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from hanse.errors import Unusable
from hanse.gathering import _checks
from hanse.kinds import Answer
from hanse.messages import Array, Record, dump, load


def found(*arrays: dict[str, Array], travelled: bool = False) -> _checks.Found:
    records = [Record({}, {f"a.{name}": array for name, array in one.items()}) for one in arrays]
    there = [load(dump(record)) if travelled else record for record in records]
    return [(Answer(f"node-{place}", 1.0, {}, {}, 0), record) for place, record in enumerate(there)]


ONE, OTHER = {"x": np.zeros(3), "n": np.zeros(1)}, {"x": np.zeros(4), "n": np.zeros(1)}


@pytest.mark.parametrize("travelled", [False, True])
def test_the_layout_is_that_of_most_and_the_others_are_named(travelled: bool) -> None:
    swapped = {name: ONE[name] for name in reversed(ONE)}  # the same, whatever the order
    assert set(_checks.layout(found(ONE, swapped, OTHER, ONE)[:2], "a.", None)) == {"a.x", "a.n"}
    with pytest.raises(Unusable) as said:
        _checks.layout(found(OTHER, ONE, swapped, ONE, travelled=travelled), "a.", None)
    assert set(said.value.nodes) == {"node-0"}
    assert "'x' is float64 (4), expected float64 (3)" in said.value.nodes["node-0"]


@pytest.mark.parametrize("travelled", [False, True])
def test_where_no_layout_is_that_of_most_nobodys_is_used(travelled: bool) -> None:
    with pytest.raises(Unusable) as said:
        _checks.layout(found(ONE, OTHER, OTHER, ONE, {}, travelled=travelled), "a.", None)
    assert set(said.value.nodes) == {f"node-{place}" for place in range(5)}
    assert "no layout is that of most" in said.value.nodes["node-4"]


def test_a_length_may_be_left_open_and_nothing_else() -> None:
    wanted: Any = {"x": ("float64", (None,)), "n": ("float64", (1,))}
    assert set(_checks.layout(found(ONE, OTHER), "a.", wanted)) == {"a.x", "a.n"}
    whole = {"x": np.zeros(3, np.int64), "n": np.zeros(1)}
    with pytest.raises(Unusable) as said:
        _checks.layout(found(ONE, OTHER, whole, {"n": np.zeros(1)}), "a.", wanted)
    assert set(said.value.nodes) == {"node-2", "node-3"}
    assert "missing" in said.value.nodes["node-3"]


@pytest.mark.parametrize("travelled", [False, True])
def test_ten_times_as_many_nodes_are_ten_times_the_work(travelled: bool) -> None:
    """By calls: comparing everybody with everybody would be a hundred times as many."""

    def calls(nodes: int) -> int:
        given, count = found(*[ONE] * nodes, travelled=travelled), 0

        def counted(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(counted)
        try:
            _checks.layout(given, "a.", None)
        finally:
            sys.setprofile(before)
        return count

    calls(2)
    assert calls(400) < 15 * calls(40)
