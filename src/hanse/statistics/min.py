"""The smallest value. It is one person's value, so it leaves a node only where ``allow_extremes`` is set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.kinds import Combine
from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Known, Owner, Statistic, Values, Withheld, same


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    x = values.finite
    edge = np.minimum.reduce(x) if len(x) else np.inf
    return {"n": np.asarray(len(x), np.int64), "min": np.asarray(edge, np.float64)}


def merge(a: Arrays, b: Arrays) -> Arrays:
    return {"n": a["n"] + b["n"], "min": np.minimum(a["min"], b["min"])}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    if not owner.extremes:
        raise Withheld("exact extremes do not leave this node; ask for quantiles, such as 0.01 and 0.99")
    return arrays


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    return float(arrays["min"]) if np.isfinite(arrays["min"]) else None


STATISTIC = Statistic(
    doc="smallest value",
    needs=lambda item: (same(item, "count"),),
    observe=observe,
    merge=merge,
    protect=protect,
    combine=Combine.MERGE,
    no_sum="it is one person's value; ask for quantiles, such as 0.01",
    final=final,
    shown=Shown(on_scale=True),
)
