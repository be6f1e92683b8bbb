"""The arithmetic mean, Σx / n over all sites. Dates: days since 1970-01-01."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.messages import Json
from hanse.presentation import Shown, Summary
from hanse.queries import NUMBERS, Arrays, Bounds, Known, Lacking, Statistic, Values, same
from hanse.statistics import _lacking


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    x = values.finite
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite sum does not leave the node
        return {"n": np.asarray(len(x), np.int64), "sum": np.asarray(np.add.reduce(x), np.float64)}


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    return float(arrays["sum"] / arrays["n"]) if arrays["n"] else None


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    return value, _lacking.moments(int(arrays["n"]), value, 0.0, lacking).mean


STATISTIC = Statistic(
    doc="arithmetic mean",
    needs=lambda item: (same(item, "count"),),
    observe=observe,
    final=final,
    pooled=pooled,
    beside=_lacking.beside,
    sums=True,
    filtered=True,
    follows=lambda item: (same(item, "sum"),),
    shown=Shown(basic=True, on_scale=True, summary=Summary(NUMBERS, 2)),
)
