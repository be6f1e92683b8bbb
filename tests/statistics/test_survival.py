"""Survival curves without a grid of all times (those with one: ``test_pooled.py``)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from pooled import federation


def test_a_curve_needs_no_grid() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"t": rng.exponential(10, 2000), "e": rng.random(2000) < 0.7})
    with federation(frame, [500], minimum_cell=10) as there:
        got = there.analytics().kaplan_meier("t", "e")
    exact = KaplanMeierFitter().fit(frame["t"], frame["e"])
    at = [5.0, 10.0, 20.0]
    mine = np.interp(at, got["times"], got["survival"])
    np.testing.assert_allclose(mine, exact.predict(at), atol=0.01)


def test_what_is_rough_says_so() -> None:
    """With joined times a log-rank test is not that of the pooled rows."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"t": rng.integers(1, 60, 600).astype(float), "e": rng.random(600) < 0.6, "g": rng.choice(["x", "y"], 600)}
    )
    grid = [float(i) for i in range(61)]
    for minimum in (1, 10):
        with federation(frame, [300], minimum_cell=minimum) as there:
            found = there.analytics().fetch_stats_with_args({"t, e": {"logrank": {"group": "g", "grid": grid}}})
            curve = there.analytics().kaplan_meier("t", "e", grid=grid)
        test = found.values("logrank")["t, e"]
        assert test.get("hidden") == (2 if minimum > 1 else None)
        assert ("hidden" in curve) == (minimum > 1)
        assert any("in runs" in note for note in found.notes) == (minimum > 1)
        exact = multivariate_logrank_test(frame["t"], frame["g"], frame["e"]).test_statistic
        if minimum == 1:
            assert abs(test["chi2"] - exact) < 1e-9
        else:
            assert test["p"] is None
            assert test["chi2_range"][0] <= exact <= test["chi2_range"][1]


def test_a_grid_that_ends_early_counts_nothing_twice() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"t": rng.integers(1, 60, 900).astype(float), "e": rng.random(900) < 0.6})
    for end in (15, 30, 55, 59, 80):
        with federation(frame, [400], minimum_cell=10) as there:
            curve = there.analytics().kaplan_meier("t", "e", grid=[float(i) for i in range(end)])
        assert curve["at_risk_range"][0][1] == 900
        inside = int((frame["e"] & (frame["t"] < end)).sum())
        assert curve["events_so_far_range"][-1][0] <= inside <= curve["events_so_far_range"][-1][1]
        exact = KaplanMeierFitter().fit(frame["t"], frame["e"]).predict(curve["times"]).to_numpy()
        assert np.abs(np.array(curve["survival"]) - exact).mean() < 0.02
