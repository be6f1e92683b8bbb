"""The Kaplan-Meier estimate of survival, with Greenwood's band on the log-log scale.

Columns: time and event (0: censored). Arguments: ``grid``, rising times; an event or a censoring in
(g[k-1], g[k]] counts at g[k], so with a grid that holds all times (such as every day) the curve is
the pooled one. Without a grid: 100 equal steps over the range of all sites. ``level``: of the band.

A node joins neighbouring times until each holds its minimum of events, and of censorings, or none
(they count at the last of the joined times, and the last of all where so many are left from it on).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.queries import Arrays, Item, Known, Owner, Statistic, Values, Withheld, same, take
from hanse.statistics import cells
from hanse.statistics._powers import center
from hanse.statistics.histogram import checked_edges
from hanse.suppression import joined, runs

STEPS = 100


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = take(options, grid=None, level=0.95)
    if found["grid"] is not None:
        found["grid"] = checked_edges(found["grid"])
    if not isinstance(found["level"], float) or not 0 < found["level"] < 1:
        raise ConfigError(f"level is {found['level']!r}; expected a number between 0 and 1, such as 0.95")
    return found


def needs(item: Item) -> tuple[Item, ...]:
    if item.options["grid"] is not None:
        return ()
    time = replace(item, columns=item.columns[:1], by=())
    return (same(time, "mean"), same(time, "cells", depth=0))


def grid_of(options: Mapping[str, Json], known: Known) -> Array:
    if options["grid"] is not None:
        return np.array(options["grid"])
    full = np.flatnonzero(known[1]["counts"])
    high = float(cells.edges(known[:1])[full[-1] + 1] + center(known[0])) if len(full) else 1.0
    return np.linspace(0, max(high, 1e-300), STEPS + 1)[1:]


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    grid = known.keep("grid", lambda: grid_of(options, known))
    time, event = (c.values for c in values.columns)
    fine = np.isfinite(time) & np.isfinite(event)
    time, event = time[fine], event[fine] != 0
    at = np.searchsorted(grid, time, "left")
    event = event & (at < len(grid))  # after the grid's end: still there
    events, gone = (np.bincount(at[which], minlength=len(grid) + 1) for which in (event, ~event))
    return {"n": np.asarray(len(time), np.int64), "events": events.astype(np.int64), "gone": gone.astype(np.int64)}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    if owner.minimum <= 1 or not arrays["n"]:
        return arrays
    place = runs(np.array([arrays["events"], arrays["gone"]]), owner.minimum)
    if np.all(place < 0):
        raise Withheld("fewer events, or fewer censorings, than this node's minimum")
    return {"n": arrays["n"], "events": joined(arrays["events"], place), "gone": joined(arrays["gone"], place)}


def at_risk(events: Array, gone: Array) -> Array:
    """(k,) subjects at risk just before each time."""
    left = events + gone
    return np.asarray(left.sum() - np.cumsum(left) + left)


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    grid = grid_of(options, known)
    events = arrays["events"][: len(grid)].astype(float)
    risk = at_risk(arrays["events"], arrays["gone"])[: len(grid)].astype(float)
    keep = risk > 0
    grid, events, risk = grid[keep], events[keep], risk[keep]
    survival = np.cumprod((risk - events) / risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.cumsum(events / (risk * (risk - events)))
        log = np.cumsum(np.log1p(-events / risk))  # of a product near 1, the logarithm has few digits
        width = -NormalDist().inv_cdf((1 - options["level"]) / 2) * np.sqrt(spread) / np.abs(log)
        lower, upper = (np.exp(log * np.exp(sign * width)) for sign in (1, -1))
    lower, upper = (np.where(survival == 1, 1.0, bound) for bound in (lower, upper))
    below = np.flatnonzero(survival <= 0.5 * (1 + 1e-12))  # a product of shares that is one half, but for rounding
    return {
        "times": grid.tolist(), "survival": survival.tolist(),
        "lower": [_or_none(v) for v in lower], "upper": [_or_none(v) for v in upper],
        "at_risk": risk.astype(int).tolist(), "events": events.astype(int).tolist(),
        "median": float(grid[below[0]]) if len(below) else None,
    }  # fmt: skip


def _or_none(value: float) -> Json:
    return float(value) if math.isfinite(value) else None


STATISTIC = Statistic(doc="survival curve", columns=2, check=check, needs=needs, before=2, observe=observe,
                      protect=protect, counts=("n", "events", "gone"), final=final, scalar=False)  # fmt: skip
