"""Survival curves and the log-rank test against lifelines, on its own data sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.datasets import load_lung, load_rossi
from lifelines.statistics import multivariate_logrank_test
from pooled import federation

CASES = [
    (load_lung, "time", "status", "sex"),
    (load_rossi, "week", "arrest", "fin"),
    (load_rossi, "week", "arrest", "wexp"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("load", "time", "event", "group"), CASES)
def test_curve_band_and_test(load: object, time: str, event: str, group: str) -> None:
    frame: pd.DataFrame = load()[[time, event, group]].dropna().astype(float)  # type: ignore[operator]
    frame[event] = (frame[event] == frame[event].max()).astype(float)
    grid = sorted({0.0, *frame[time]})
    with federation(frame, [3, 3, 60]) as there:
        got = there.analytics().kaplan_meier(time, event, grid)
        fit = KaplanMeierFitter().fit(frame[time], frame[event])
        expected = fit.survival_function_.iloc[:, 0]
        found = pd.Series(got["survival"], got["times"])
        np.testing.assert_allclose(found, expected.reindex(found.index), rtol=1e-10)
        band = fit.confidence_interval_
        for side, column in (("lower", 0), ("upper", 1)):
            mine = np.array([np.nan if v is None else v for v in got[side]])
            theirs = band.iloc[:, column].reindex(found.index).to_numpy()
            inner = (found > 0) & (found < 1)
            np.testing.assert_allclose(mine[inner], theirs[inner], rtol=1e-8)
        median = fit.median_survival_time_
        assert got["median"] == (None if np.isinf(median) else median)
        test = multivariate_logrank_test(frame[time], frame[group], frame[event])
        mine = there.analytics().logrank(time, event, group, grid)
        assert mine["chi2"] == pytest.approx(test.test_statistic, rel=1e-10)
        assert mine["p"] == pytest.approx(test.p_value, rel=1e-8)
        curves = there.analytics(by=group).kaplan_meier(time, event, grid)
        for label, rows in frame.groupby(group):
            one = KaplanMeierFitter().fit(rows[time], rows[event]).survival_function_.iloc[:, 0]
            key = str(int(label))
            mine_one = pd.Series(curves[key]["survival"], curves[key]["times"])
            np.testing.assert_allclose(mine_one.reindex(one.index[1:]), one.iloc[1:], rtol=1e-10)


def test_a_curve_needs_no_grid() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"t": rng.exponential(10, 2000), "e": rng.random(2000) < 0.7})
    with federation(frame, [500], minimum_cell=10) as there:
        got = there.analytics().kaplan_meier("t", "e")
    exact = KaplanMeierFitter().fit(frame["t"], frame["e"])
    at = [5.0, 10.0, 20.0]
    mine = np.interp(at, got["times"], got["survival"])
    np.testing.assert_allclose(mine, exact.predict(at), atol=0.04)
