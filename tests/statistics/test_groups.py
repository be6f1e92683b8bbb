"""Breakdowns by the labels of other columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pooled import federation


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
            assert abs(float((rows < value).mean()) - q) < (0.08 if depth == 0 else 0.02 + 1 / len(rows))
            seen += 1
    assert seen == 9 * (2 if len(by) > 1 else 1)
