"""Quantiles by counting are those of the sorted numbers, and XGBoost's."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from hanse.boosting import quantiles as q
from hanse.codec import decode, encode
from hanse.messages import Array
from tests.examples import examples


def counted(values: Array, group: Array, groups: int, alpha: float, sites: int = 3) -> Array:
    """As it goes over sites."""
    sought, parts = q.begin(np.arange(groups)), np.array_split(np.arange(len(values)), sites)
    for _ in range(q.EXCHANGES):
        asked = decode(q.Sought, encode(sought))
        found = sum(q.counts(q.keys(values[part]), group[part], asked) for part in parts)
        sought = q.narrowed(sought, np.asarray(found), alpha)
    return q.quantiles(sought, np.bincount(group[group >= 0], minlength=groups), alpha)


def sorted_quantile(values: Array, alpha: float) -> float:
    """XGBoost's, on sorted numbers."""
    found, n, alpha = np.sort(values), len(values), float(np.float32(alpha))
    if n == 0:
        return 0.0
    if alpha <= 1 / (n + 1):
        return float(found[0])
    if alpha >= n / (n + 1):
        return float(found[-1])
    x = alpha * (n + 1)
    k = int(np.floor(x)) - 1
    return float(np.float32(float(found[k]) + ((x - 1) - k) * float(found[k + 1] - found[k])))


@examples(25)
@given(
    st.lists(st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-1, 3)), max_size=60),
    st.floats(0, 1),
)
def test_they_are_those_of_the_sorted_numbers(rows: list[tuple[float, int]], alpha: float) -> None:
    values, group = np.float32([v for v, _ in rows]), np.array([g for _, g in rows], np.int64)
    with np.errstate(over="ignore"):
        found = counted(values, group, 4, alpha)
        expected = [sorted_quantile(values[group == g], alpha) for g in range(4)]
    assert found.tolist() == pytest.approx(expected, rel=0, abs=0)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 10, 19, 20, 1001])
@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.1, 0.5, 0.9, 1.0])
def test_ends_and_ties(n: int, alpha: float) -> None:
    rng = np.random.default_rng(n)
    for values in (
        rng.normal(size=n).astype(np.float32),
        np.float32(rng.integers(0, 3, n)),
        np.full(n, np.float32(-0.0)),
    ):
        assert counted(values, np.zeros(n, np.int64), 1, alpha)[0] == sorted_quantile(values, alpha)


@examples(20)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.integers(0, 5)), min_size=1, max_size=40),
    st.sampled_from([0.01, 0.25, 0.5, 0.8, 1.0]),
)
def test_of_weights_they_are_the_first_number_that_comes_to_its_share(
    rows: list[tuple[float, int]], alpha: float
) -> None:
    values, weight = np.float32([v for v, _ in rows]), np.array([w for _, w in rows], np.int64)
    sought, group = q.begin(np.zeros(1)), np.zeros(len(rows), np.int64)
    for _ in range(q.EXCHANGES):
        parts = (slice(None, len(rows) // 2), slice(len(rows) // 2, None))
        found = sum(q.counts(q.keys(values[p]), group[p], sought, weight[p]) for p in parts)
        sought = q.narrowed(sought, np.asarray(found), alpha, True)
    total = int(weight.sum())
    got = q.quantiles(sought, np.array([total]), alpha, True)[0]
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order]) >= max(total * float(np.float32(alpha)), 1)
    assert got == (values[order][reached.argmax()] if total else 0)


@pytest.mark.parametrize(("objective", "alpha"), [("reg:absoluteerror", 0.5), ("reg:quantileerror", 0.8)])
def test_leaves_and_first_margins_are_xgboosts(objective: str, alpha: float) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 3)), rng.normal(3, 2, 500).astype(np.float32)
    options = {"objective": objective, "max_depth": 3, "eta": 1.0, "nthread": 1}
    options |= {"quantile_alpha": alpha} if objective == "reg:quantileerror" else {}
    rows = xgboost.DMatrix(X, y)
    booster = xgboost.train(options, rows, 1)
    leaf = booster.predict(rows, pred_leaf=True).astype(np.int64).ravel()
    base = counted(y, np.zeros(500, np.int64), 1, alpha)[0]
    found = counted(y - base, leaf, int(leaf.max()) + 1, alpha)
    assert np.array_equal(booster.predict(rows, output_margin=True), base + found[leaf])
