"""Where packages read one survival curve in two ways, the range of ours holds both readings."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from statsmodels.duration.survfunc import SurvfuncRight

import hanse

ALONE = {"minimum_cell": 1, "minimum_samples": 1, "allow_node_statistics": True}


@pytest.mark.parametrize("events", [4, 10, 30])
def test_the_median_of_a_curve_that_rests_at_one_half(events: int) -> None:
    times = np.arange(1.0, events + 1)
    sites = {"all": {"t": times, "e": np.ones(events)}}
    found = hanse.simulate(sites, policy=ALONE).analytics().kaplan_meier("t", "e")
    first = KaplanMeierFitter().fit(times, np.ones(events)).median_survival_time_
    second = SurvfuncRight(times, np.ones(events)).quantile(0.5)
    assert first < second
    low, high = found["median_range"]
    assert low <= first <= float(found["median"]) < second <= high
