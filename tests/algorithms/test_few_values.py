"""Sums of columns of two or three values, which tell how many rows have each: kept back where an owner says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hanse
from hanse.algorithms._few_values import FewValues, hidden_sums
from hanse.errors import Refused
from hanse.queries import Values, statistic
from hanse.registry import names
from hanse.table import Column
from tests.examples import examples

HIDE = {"hide_rare_values": True, "allow_node_statistics": True}


def rows(n: int = 200, rare: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "yes": (np.arange(n) < rare).astype(float),
        "half": (np.arange(n) % 2).astype(float),
        "three": np.where(np.arange(n) < rare, 2.0, np.arange(n) % 2),
        "x": rng.normal(size=n),
        "g": np.where(np.arange(n) % 4 < 2, "a", "b"),
    }


def asked(data: Any, stat: str, columns: str, by: str = "", **owner: Any) -> Any:
    result = (
        hanse.simulate({"s": data}, policy={**HIDE, **owner})
        .analytics()
        .fetch_stats_with_args({columns: {stat: {}}}, by=by or None)
    )
    return result, result.value(next(i for i in result.wanted if i.stat == stat))


def few(values: Any) -> FewValues:
    found = FewValues(1)
    found.add(Values([Column.numeric(values)]))
    return found


@pytest.mark.parametrize("stat", ["mean", "variance", "std", "sum", "moments"])
@pytest.mark.parametrize("column", ["yes", "three"])
def test_what_tells_how_many_said_yes_is_kept_back(stat: str, column: str) -> None:
    result, value = asked(rows(), stat, column)
    assert value is None or set(value.values()) == {None}
    assert any("few rows" in note or "kept back" in note for note in result.notes)
    for other in ("half", "x"):
        assert asked(rows(), stat, other)[1] is not None
    assert asked(rows(), stat, column, hide_rare_values=False)[1] is not None
    assert asked(rows(rare=12), stat, column)[1] is not None


def test_of_groups_no_rest_tells_it() -> None:
    """Three of group a, none of b: a is kept back, and b with it, as all rows less b would be a. Where all rows have
    enough, they are told, and no two groups are less than that apart."""
    result, found = asked(rows(), "mean", "yes", by="g")
    assert found == {"a": None, "b": None}
    data = rows(rare=12)  # six of each
    assert asked(data, "mean", "yes")[1] == pytest.approx(0.06)
    assert asked(data, "mean", "yes", by="g")[1] == {"a": None, "b": None}
    data["yes"] = np.where(data["g"] == "a", np.arange(200) < 60, np.arange(200) < 40).astype(float)
    found = asked(data, "mean", "yes", by="g")[1]
    assert set(found) == {"a", "b"}
    assert None not in found.values()


@examples(25)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=6))
def test_what_is_hidden_together_has_the_minimum_of_each_value_or_none(groups: list[tuple[int, int]]) -> None:
    found = [few([0.0] * a + [1.0] * b) for a, b in groups]
    back = hidden_sums(found, np.zeros(len(groups), bool), [len(groups)], 10)
    counts = np.array(groups)
    assert not ((counts[~back] > 0) & (counts[~back] < 10)).any()
    if back.any() and not back.all():
        left = counts[back].sum(0)
        assert ((left == 0) | (left >= 10)).all()


def test_pairs_with_a_rare_value_or_a_rare_cell_are_kept_back_and_others_are_not() -> None:
    data = rows()
    data["both"] = np.where(np.arange(200) < 104, data["half"], 1 - data["half"])  # cells of 52 and 48
    data["near"] = np.where(np.arange(200) < 6, 1 - data["half"], data["half"])  # three in two cells
    result, found = asked(data, "correlation", "yes, half, x, both, near")
    table = np.array(found, object)
    told = np.array([[v is not None for v in row] for row in table])
    assert not told[0].any()
    assert not told[:, 0].any()
    assert [bool(told[pair]) for pair in ((1, 2), (1, 3), (2, 3), (2, 4))] == [True] * 4
    assert not told[1, 4]
    pooled = pd.DataFrame(data)[["half", "both"]].corr().iloc[0, 1]
    assert table[1, 3] == pytest.approx(pooled, rel=1e-9)


@examples(20)
@given(st.data())
def test_batches_count_as_the_whole(data: Any) -> None:
    value = st.sampled_from([0.0, 1.0, 2.0, float("nan")])
    columns = [data.draw(st.lists(value, min_size=12, max_size=12)) for _ in range(2)]
    columns.append(list(np.arange(12.0)))
    cut = data.draw(st.integers(0, 12))
    whole, parts = FewValues(3), FewValues(3)
    whole.add(Values([Column.numeric(c) for c in columns]))
    for low, high in ((0, cut), (cut, 12)):
        parts.add(Values([Column.numeric(c[low:high]) for c in columns]))
    for minimum in (2, 4, 9):
        assert np.array_equal(whole.rare(minimum)[:2, :2], parts.rare(minimum)[:2, :2])


def test_a_column_that_has_many_values_later_is_none_of_few() -> None:
    found = few([0.0, 1.0] * 100)
    found.add(Values([Column.numeric(np.arange(100.0))]))
    assert not found.counts()
    assert not found.rare(10).any()


def test_every_statistic_of_sums_says_that_it_is_one() -> None:
    """All whose shared arrays are floating-point sums of values; what is joined to cells is protected by these."""
    assert {n for n in names("statistics") if statistic(n).sums} == {
        "mean",
        "variance",
        "moments",
        "pair_means",
        "covariance",
    }


def test_on_totals_it_is_refused() -> None:
    data = {name: rows() for name in ("a", "b", "c")}
    federation = hanse.simulate(data, policy={"statistics_minimum": "total", "hide_rare_values": True})
    with pytest.raises(Refused, match="hide_rare_values"):
        federation.analytics(gathering="secure").mean(["x"])
    assert federation.analytics(gathering="secure").value_counts(["g"])["g"] == {"a": 300, "b": 300}
