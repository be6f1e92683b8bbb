"""Cox's partial likelihood: its gradient is that of the loss, and XGBoost's where no times are tied."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xgboost

from hanse.boosting import risk, scales
from hanse.boosting.objective import Objective, chosen
from hanse.messages import Array
from hanse.task import Task

TASK = Task("survival", ("x",))


def followed(n: int, seed: int, ties: bool = False) -> Array:
    rng = np.random.default_rng(seed)
    time = rng.exponential(10, n) + 0.01
    return np.column_stack([np.ceil(time) if ties else time, rng.random(n) < 0.6]).astype(np.float64)


def given(y: Array, margin: Array, edges: Array, sites: int = 3) -> Objective:
    """The objective with the hazard that three sites' sums come to."""
    own: Any = chosen(TASK, {})
    interval, values = risk.intervals(y[:, 0], edges), np.exp(margin.astype(np.float64))
    units, k = scales.settled(scales.magnitudes(values)), len(edges) + 1
    at, happened = np.zeros(k, np.int64), np.zeros(k, np.int64)
    for rows in np.array_split(np.arange(len(y)), sites):
        whole = scales.whole(values[rows], units)[:, 0].astype(np.int64)
        at += scales.binned(interval[rows], k, whole)
        happened += np.bincount(interval[rows][y[rows, 1] == 1], minlength=k)
    found: Objective = own.given(risk.hazard(at, happened, int(units[0]))[interval])
    return found


def every_time(y: Array) -> Array:
    return np.unique(y[:, 0].astype(np.float32))[1:]


def loss(y: Array, margin: Array) -> float:
    """Breslow's, in so many words."""
    time, event = y.T
    return sum(np.log(np.exp(margin[time >= t]).sum()) - f for t, d, f in zip(time, event, margin, strict=True) if d)


@pytest.mark.parametrize("ties", [False, True])
def test_gradients_and_hessians_are_those_of_the_loss(ties: bool) -> None:
    y = followed(60, 0, ties)
    margin = np.random.default_rng(1).normal(size=60)
    g, h = given(y, margin[:, None].astype(np.float32), every_time(y)).gradients(margin[:, None].astype(np.float32), y)
    for i in range(60):
        step = np.zeros(60)
        step[i] = 1e-4
        up, here, down = (loss(y, margin + s * step) for s in (1, 0, -1))
        assert g[i, 0] == pytest.approx((up - down) / 2e-4, abs=1e-5)
        assert h[i, 0] == pytest.approx((up - 2 * here + down) / 1e-8, abs=1e-4)


def test_they_are_xgboosts_where_no_times_are_tied() -> None:
    y = followed(300, 2)
    y = y[np.argsort(y[:, 0])]
    margin = np.random.default_rng(3).normal(size=(300, 1)).astype(np.float32)
    g, h = given(y, margin, every_time(y)).gradients(margin, y)
    rows = xgboost.DMatrix(np.arange(300.0)[:, None], np.where(y[:, 1] == 1, 1, -1) * y[:, 0], base_margin=margin[:, 0])
    alone = {"tree_method": "exact", "max_depth": 300, "eta": 1, "lambda": 0, "min_child_weight": 0, "nthread": 1}
    booster = xgboost.train({"objective": "survival:cox", **alone}, rows, 1)
    tree = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"][0]
    leaf = booster.predict(rows, pred_leaf=True).astype(int).ravel()
    single = np.bincount(leaf, minlength=len(tree["sum_hessian"]))[leaf] == 1
    assert single.sum() > 100
    assert np.allclose(np.float32(tree["sum_hessian"])[leaf[single]], h[single, 0], rtol=1e-5, atol=1e-7)
    weights = np.float32(tree["base_weights"])[leaf[single]]
    assert np.allclose(weights, -(g / np.maximum(h, 1e-30))[single, 0], rtol=1e-4)


def test_predictions_and_the_base_score_are_xgboosts() -> None:
    y, own = followed(50, 4), chosen(TASK, {})
    rows = xgboost.DMatrix(np.zeros((50, 1)), np.where(y[:, 1] == 1, 1, -1) * y[:, 0])
    booster = xgboost.train({"objective": "survival:cox", "eta": 0, "nthread": 1}, rows, 1)
    base = own.base(own.begin(y).sum(0), 50)
    assert np.array_equal(booster.predict(rows, output_margin=True), np.tile(own.margin(base), 50))
    margin = np.random.default_rng(5).normal(0, 4, (1000, 1)).astype(np.float32)
    data = xgboost.DMatrix(np.zeros((1000, 1)), base_margin=margin)
    assert np.array_equal(own.predict(margin), booster.predict(data).astype(np.float64))


def test_coarser_intervals_are_ties() -> None:
    y = followed(80, 6)
    margin = np.random.default_rng(7).normal(size=(80, 1)).astype(np.float32)
    edges = np.float32([4.0, 9.0, 20.0])
    tied = np.column_stack([risk.intervals(y[:, 0], edges).astype(float), y[:, 1]])
    expected = given(tied, margin, np.float32([1, 2, 3])).gradients(margin, tied)
    for found, wanted in zip(given(y, margin, edges).gradients(margin, y), expected, strict=True):
        assert np.array_equal(found, wanted)


def test_what_is_no_time_or_event_is_said() -> None:
    own = chosen(TASK, {})
    assert own.unfit(np.array([[-1.0, 1.0]])) == "a time is below 0"
    assert own.unfit(np.array([[1.0, 2.0]])) == "an event is neither true nor false"
    assert own.unfit(np.zeros((0, 2))) == ""
