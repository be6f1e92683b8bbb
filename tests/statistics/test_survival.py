"""Survival curves without a grid of all times (those with one: ``test_pooled.py``)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from pooled import federation


def test_a_curve_needs_no_grid() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"t": rng.exponential(10, 2000), "e": rng.random(2000) < 0.7})
    with federation(frame, [500], minimum_cell=10) as there:
        got = there.analytics().kaplan_meier("t", "e")
    exact = KaplanMeierFitter().fit(frame["t"], frame["e"])
    at = [5.0, 10.0, 20.0]
    mine = np.interp(at, got["times"], got["survival"])
    np.testing.assert_allclose(mine, exact.predict(at), atol=0.04)
