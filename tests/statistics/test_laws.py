"""The law of every statistic: merge is associative and commutative, and no rows are its unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse import registry
from hanse.queries import Arrays, Item, Known, Statistic, Values, make_item, ordered, pack, statistic
from hanse.table import Column, ColumnKind
from tests.examples import examples

OPTIONS: dict[str, dict[str, Any]] = {
    "histogram": {"bin_edges": [-10.0, -1.0, 0.0, 0.5, 4.0]},
    "kaplan_meier": {"grid": [1.0, 2.0, 5.0, 10.0]},
    "t_test": {"group": "g"},
    "smd": {"group": "g"},
    "mann_whitney": {"group": "g"},
    "logrank": {"group": "g"},
    "quantile": {"q": 0.3},
}
NAMES = registry.names("statistics")
OBSERVED = [n for n in NAMES if statistic(n).observe is not None]
numbers = st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(float("nan")), st.just(float("inf"))), max_size=30)


def item_of(name: str) -> Item:
    columns = ["a", "b"][: statistic(name).columns or 2]
    return make_item(name, columns, OPTIONS.get(name, {}))


def rows(name: str, values: list[float]) -> Values:
    stat = statistic(name)
    x = np.array(values, float)
    if ColumnKind.CATEGORICAL in stat.kinds and ColumnKind.NUMERIC not in stat.kinds:
        return Values([Column.categorical([str(int(v) % 3) for v in x if np.isfinite(v)])] * stat.columns)
    first = Column.numeric(np.abs(x) if name == "kaplan_meier" else np.round(x) if "l" in name else x)
    second = Column.numeric((x > 0).astype(float) if name == "kaplan_meier" else np.round(x[::-1] / 100))
    return Values([first] if stat.columns == 1 else [first, second])


def known(name: str) -> Known:
    """What all sites would have settled before."""
    mean: Arrays = {"n": np.asarray(4), "sum": np.asarray(10.0)}
    labels: Arrays = {"labels": pack(ordered([str(i) for i in range(-5, 6)]))}
    found: list[Arrays] = []
    for need in statistic(name).needs(item_of(name)):
        if need.stat == "cells":
            stat, so_far = statistic("cells"), Known(found)
            options = need.options
            assert stat.observe is not None
            found.append(stat.observe(Values([Column.numeric(np.linspace(-500, 500, 999))]), options, so_far))
        elif need.stat == "pair_means":
            found.append({"N": np.full((2, 2), 4), "S": np.array([[9.0, 10.0], [2.0, 1.0]])})
        else:
            found.append(labels if need.stat == "levels" else mean)
    return Known(found)


def observe(name: str, values: list[float], knows: Known) -> Arrays:
    stat: Statistic = statistic(name)
    assert stat.observe is not None
    return stat.observe(rows(name, values), item_of(name).options, knows)


def final(name: str, arrays: Arrays, knows: Known) -> Any:
    """Through everything that happens on the way, so that two forms of one value compare as equal."""
    stat, options = statistic(name), item_of(name).options
    from hanse.queries import Owner

    return stat.share(stat.protect(arrays, options, Owner(1, True), knows), options, knows)


def assert_same(a: Arrays, b: Arrays) -> None:
    assert set(a) == set(b)
    for name in a:
        assert a[name].dtype == b[name].dtype or name == "labels"
        scale = max(float(np.max(np.abs(a[name]), initial=1.0)), 1.0) if a[name].dtype.kind == "f" else 0.0
        finite = np.isfinite(np.asarray(a[name], float))
        np.testing.assert_array_equal(finite, np.isfinite(np.asarray(b[name], float)))
        np.testing.assert_allclose(
            np.asarray(a[name], float)[finite], np.asarray(b[name], float)[finite], rtol=1e-10, atol=1e-11 * scale
        )


@pytest.mark.parametrize("name", OBSERVED)
@examples(15)
@given(numbers, numbers, numbers)
def test_merge_is_a_commutative_monoid(name: str, x: list[float], y: list[float], z: list[float]) -> None:
    knows, merge = known(name), statistic(name).merge
    a, b, c, unit = (observe(name, part, knows) for part in (x, y, z, []))
    assert_same(final(name, merge(a, merge(b, c)), knows), final(name, merge(merge(a, b), c), knows))
    assert_same(final(name, merge(a, b), knows), final(name, merge(b, a), knows))
    assert_same(final(name, merge(a, unit), knows), final(name, a, knows))
    assert_same(final(name, merge(unit, a), knows), final(name, a, knows))
    assert int(merge(a, b)["n"]) == int(a["n"]) + int(b["n"]) or name in ("covariance", "pair_means", "levels")


@pytest.mark.parametrize("name", [n for n in OBSERVED if n not in ("levels",)])
@examples(15)
@given(numbers, numbers)
def test_merge_is_what_all_rows_together_give(name: str, x: list[float], y: list[float]) -> None:
    if statistic(name).columns != 1:  # the second column is made of the first, row by row
        y = x
    knows = known(name)
    stat = statistic(name)
    assert stat.observe is not None
    both = Values(
        [
            Column(c.kind, np.concatenate([c.values, d.values]), c.categories)
            for c, d in zip(rows(name, x).columns, rows(name, y).columns, strict=True)
        ]
    )
    whole = stat.observe(both, item_of(name).options, knows)
    parts = stat.merge(observe(name, x, knows), observe(name, y, knows))
    assert_same(final(name, parts, knows), final(name, whole, knows))


@pytest.mark.parametrize("name", NAMES)
def test_a_statistic_is_one_file_that_says_what_it_is(name: str) -> None:
    found = registry.find("statistics", name)
    assert isinstance(found.STATISTIC, Statistic)
    assert found.STATISTIC.doc
    assert found.__doc__
    assert all(need.stat in NAMES for need in found.STATISTIC.needs(item_of(name)))
