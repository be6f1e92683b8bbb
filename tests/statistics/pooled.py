"""Random sites whose rows can be pooled, and the pooled answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

import hanse
from hanse.experiment.experiment import Federation

OPEN = {"minimum_cell": 1, "allow_extremes": True, "allow_node_statistics": True}


def split(frame: pd.DataFrame, cuts: list[int]) -> dict[str, pd.DataFrame]:
    edges = [0, *sorted(min(c, len(frame)) for c in cuts), len(frame)]
    return {f"s{i}": frame.iloc[a:b] for i, (a, b) in enumerate(zip(edges, edges[1:], strict=False))}


def federation(frame: pd.DataFrame, cuts: list[int], **policy: Any) -> Federation:
    return hanse.simulate(split(frame, cuts), policy={**OPEN, **policy}, workers=1)


@st.composite
def frames(draw: Any) -> tuple[pd.DataFrame, list[int]]:
    """Columns with huge offsets, gaps, infinities, labels; uneven splits with empty and one-row sites."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n = draw(st.sampled_from([1, 2, 3, 7, 40, 200]))
    gaps = draw(st.sampled_from([0.0, 0.1, 0.6]))
    frame = pd.DataFrame({
        "offset": rng.normal(1e8, 1, n), "heavy": np.exp(rng.normal(0, 2, n)), "tiny": rng.normal(0, 1e-9, n),
        "whole": rng.integers(-3, 60, n).astype(float), "flag": rng.random(n) < 0.4,
        "label": rng.choice(["a", "b", "c"], n, p=[0.7, 0.25, 0.05]), "arm": rng.choice(["x", "y"], n),
    })  # fmt: skip
    for name in ("offset", "heavy", "whole"):
        frame.loc[rng.random(n) < gaps, name] = np.nan
    if draw(st.booleans()):
        frame.loc[rng.random(n) < 0.1, "heavy"] = np.inf
    cuts = sorted(draw(st.lists(st.integers(0, n), min_size=1, max_size=3)))
    if draw(st.booleans()):
        cuts = [cuts[0], cuts[0], *cuts]  # an empty site
    return frame, cuts
