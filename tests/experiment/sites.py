"""Well-known data, split over sites as it is in life: unequally, with gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
from sklearn import datasets

Sites = dict[str, pandas.DataFrame]


def cancer(sites: int = 3) -> Sites:
    """Two classes by name; the first site holds about half of all rows."""
    frame = datasets.load_breast_cancer(as_frame=True).frame
    frame = frame.rename(columns={"target": "disease"}).iloc[:, [0, 1, 4, 6, 7, 10, 20, 21, 24, 27, 30]]
    frame["disease"] = np.where(frame["disease"] == 1, "benign", "malignant")
    return _split(frame, sites)


def iris(sites: int = 3) -> Sites:
    """Three classes; the last of several sites has never seen one of them."""
    frame = datasets.load_iris(as_frame=True).frame.rename(columns={"target": "disease"})
    frame["disease"] = np.array(["setosa", "versicolor", "virginica"])[frame["disease"]]
    found = _split(frame, sites)
    if sites > 1:
        last = f"site{sites}"
        found[last] = found[last][found[last]["disease"] != "virginica"]
    return found


def diabetes(sites: int = 3) -> Sites:
    """A number to predict."""
    return _split(datasets.load_diabetes(as_frame=True).frame.rename(columns={"target": "disease"}), sites)


def rough() -> Sites:
    """Text and numbers with gaps; one site without a row, one that lacks a class, one that never
    measured a column."""
    found = cancer(4)
    rng = np.random.default_rng(7)
    for number, frame in enumerate(found.values()):
        frame.insert(0, "grade", rng.choice(["low", "high", None], len(frame)))
        frame.insert(0, "smoker", [None if r < 0.1 else bool(r < 0.4) for r in rng.random(len(frame))])
        frame.iloc[:: 5 + number, 3] = np.nan
    found["site2"] = found["site2"][found["site2"]["disease"] == "benign"]
    found["site3"]["grade"] = None
    found["site4"] = found["site4"].iloc[:0]
    return found


def _split(frame: Any, sites: int) -> Sites:
    frame = frame.sample(frac=1.0, random_state=3)
    shares = np.array([2.0 ** -min(i, sites - 2) if sites > 1 else 1.0 for i in range(1, sites + 1)])
    edges = np.round(np.cumsum(shares / shares.sum()) * len(frame)).astype(int)
    starts = [0, *edges[:-1]]
    return {f"site{i + 1}": frame.iloc[a:b].copy() for i, (a, b) in enumerate(zip(starts, edges, strict=True))}
