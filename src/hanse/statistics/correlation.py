"""Pearson's correlation of all pairs of columns, each over the rows in which both are there; derived
from what the covariance needs. None where a column does not vary."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Known, Statistic, same
from hanse.statistics import pair_means
from hanse.statistics.covariance import central
from hanse.table import ColumnKind


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    products, squares = central(known[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(squares)  # of each by itself: the product of two squares may not be a float64
        found = products / spread / spread.T
    varies = (known[0]["N"] > 1) & (squares > 0) & (squares.T > 0)
    return pair_means.table(np.where(varies, np.clip(found, -1, 1), np.nan))


STATISTIC = Statistic(
    doc="correlations",
    columns=0,
    needs=lambda item: (same(item, "covariance"),),
    final=final,
    fewer=lambda arrays, options, known: pair_means.fewer(known[0], options, known),
    why=lambda found, options, arrays, known: "a column that does not vary, or is never beside the other, has none",
    scalar=False,
    matrix=True,
    shown=Shown(usual=frozenset({ColumnKind.NUMERIC, ColumnKind.BOOLEAN})),
)
