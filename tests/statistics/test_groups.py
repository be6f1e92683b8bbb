"""Breakdowns by the labels of other columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pooled import federation

from hanse.statistics.histogram import counted
from tests.examples import examples


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("by", [["arm"], ["arm", "ward"]])
def test_quantiles_of_groups_of_very_different_sizes(depth: int, by: list[str]) -> None:
    """Each group has cells of its own, and another number of them."""
    rng = np.random.default_rng(depth)
    n = 6000
    arms, wards = rng.choice(["x", "y", "z"], n, p=[0.9, 0.09, 0.01]), rng.choice(["u", "v"], n)
    frame = pd.DataFrame({"arm": arms, "ward": wards})
    frame["value"] = rng.normal(size=n) * frame["arm"].map({"x": 1.0, "y": 1e3, "z": 1e-3})
    found = federation(frame, [2000, 2100]).analytics(by=by if len(by) > 1 else by[0])
    result = found.fetch_stats_with_args({"value": {"quantile": {"q": [0.1, 0.5, 0.9], "depth": depth}}})
    by_label = result.values("quantile")["value"]
    seen = 0
    for labels, rows in frame.groupby(by)["value"]:
        values = by_label[labels[0] if len(by) == 1 else tuple(labels)]
        for q, value in zip((0.1, 0.5, 0.9), values, strict=True):
            assert abs(float((rows < float(value)).mean()) - q) < (0.08 if depth == 0 else 0.02 + 1 / len(rows))
            seen += 1
    assert seen == 9 * (2 if len(by) > 1 else 1)


@examples(80)
@given(st.data())
def test_counts_by_arithmetic_are_those_of_a_search(data: st.DataObject) -> None:
    """Even, nearly even and uneven edges far from zero and near it; values on, beside and far from the edges."""
    bins = data.draw(st.integers(1, 300))
    low = data.draw(st.floats(-1e12, 1e12) | st.sampled_from([0.0, -5.0, 0.1, 1e8, -1e300, 5e-324]))
    width = data.draw(st.floats(1e-9, 1e12) | st.sampled_from([1.0, 10.0, 0.3, 1e300, 1e-310]))
    edges = np.linspace(low, low + width, bins + 1)
    if data.draw(st.booleans()):
        edges = edges * (1 + 1e-9 * np.arange(len(edges)))
    edges = np.unique(edges[np.isfinite(edges)])
    if len(edges) < 2:
        return
    beside = [np.nextafter(edges, side) for side in (-np.inf, np.inf)]
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    with np.errstate(over="ignore"):
        inside = rng.uniform(0, 1, 500) * (edges[-1] - edges[0]) + edges[0]
    x = np.concatenate([edges, *beside, inside, [-1.7e308, 1.7e308, 0.0, -0.0]])
    x = x[np.isfinite(x)]
    expected = np.bincount(np.searchsorted(edges, x, "right"), minlength=len(edges) + 1)
    assert np.array_equal(counted(x, edges), expected)
