"""The largest value. It is one person's value, so it leaves a node only where ``allow_extremes`` is set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.kinds import Combine
from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Known, Owner, Statistic, Values, Withheld, same


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    x = values.finite
    edge = np.maximum.reduce(x) if len(x) else -np.inf
    return {"n": np.asarray(len(x), np.int64), "max": np.asarray(edge, np.float64)}


def merge(a: Arrays, b: Arrays) -> Arrays:
    return {"n": a["n"] + b["n"], "max": np.maximum(a["max"], b["max"])}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    if not owner.extremes:
        raise Withheld("exact extremes do not leave this node; ask for quantiles, such as 0.01 and 0.99")
    return arrays


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    return float(arrays["max"]) if np.isfinite(arrays["max"]) else None


STATISTIC = Statistic(
    doc="largest value",
    needs=lambda item: (same(item, "count"),),
    observe=observe,
    merge=merge,
    protect=protect,
    combine=Combine.MERGE,
    no_sum="it is one person's value; ask for quantiles, such as 0.99",
    final=final,
    shown=Shown(on_scale=True),
)
