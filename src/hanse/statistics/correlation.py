"""Pearson's correlation of all pairs of columns, each over the rows in which both are there; derived
from what the covariance needs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.messages import Json
from hanse.queries import Arrays, Known, Statistic, same
from hanse.statistics.covariance import table


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    n, a, b, d = (known[0][name] for name in ("N", "A", "B", "D"))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = d - a**2 / n
        found = (b - a * a.T / n) / np.sqrt(spread * spread.T)
    return table(np.where(n > 1, np.clip(found, -1, 1), np.nan))


STATISTIC = Statistic(doc="correlations", columns=0, needs=lambda item: (same(item, "covariance"),), final=final,
                      scalar=False)  # fmt: skip
