"""The Kaplan-Meier estimate of survival, with Greenwood's band on the log-log scale.

Columns: time and event (0: censored). Arguments: ``grid``, rising times; an event or a censoring in
(g[k-1], g[k]] counts at g[k], so with a grid that holds all times (such as every day) the curve is
the pooled one. Without a grid: 100 equal steps over the range of all sites. ``level``: of the band.

A node joins neighbouring times until each holds its minimum of events, and of censorings, or none; of groups,
each of each of them, at the same times for all. They count at the last of the joined times, and the last of all
where so many are left from it on (of fewer that stand after the grid, too). Curves of other grids would tell who
stands between two of their times: so a node remembers the times that it has shown, and a new one that would cut
off too few from an earlier one is joined. ``hidden``: at how many sites times were joined; the curve, and what is
computed from it, is then rough.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.presentation import Picture, Shown, Step, Steps
from hanse.queries import Arrays, Item, Known, Owner, Statistic, Values, Withheld, same, take
from hanse.statistics import cells
from hanse.statistics._powers import center
from hanse.statistics.histogram import checked_edges
from hanse.suppression import hidden_groups

STEPS = 100
FEW = "times are joined until each holds the minimum of events and of censorings: curves are rough, and tests more so"


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
    """``events`` and ``gone`` (k + 1,) at the times of the grid and of ``cuts``, and after all of them."""
    times = known.keep("times", lambda: _times(grid_of(options, known), values.cuts))
    time, event = (c.values for c in values.columns)
    fine = np.isfinite(time) & np.isfinite(event)
    time, event = time[fine], event[fine] != 0
    at = np.searchsorted(times, time, "left")
    event = event & (at < len(times))  # after the last time: still there
    events, gone = (np.bincount(at[which], minlength=len(times) + 1) for which in (event, ~event))
    return {"n": np.asarray(len(time), np.int64), "events": events.astype(np.int64), "gone": gone.astype(np.int64)}


def _times(grid: Array, cuts: Sequence[float]) -> Array:
    return np.unique(np.concatenate([grid, cuts])) if len(cuts) else grid


def cuts(options: Mapping[str, Json], known: Known) -> list[float]:
    """The times at which this item counts."""
    return [float(t) for t in grid_of(options, known)]


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    grid = grid_of(options, known)
    times = _times(grid, owner.cuts)
    if owner.minimum <= 1 or not arrays["n"]:
        return _at(arrays, times, grid, grid)
    if owner.grouped:
        return {"n": arrays["n"]}  # all groups together, below
    return _told([arrays], times, grid, owner)[0]


def across(
    found: Sequence[Arrays],
    sent: Sequence[Arrays | None],
    shape: Sequence[int],
    owner: Owner,
    options: Mapping[str, Json],
    known: Known,
) -> list[Arrays | None]:
    """The curves of groups, at the same times; what they leave of that of all rows is one more part."""
    back = np.array([part is None or not part for part in sent])
    totals = np.array([[part["events"].sum(), part["gone"].sum()] for part in found])
    back = hidden_groups(
        totals, back & (totals.sum(1) > 0) & np.array([part is not None for part in sent]), shape, owner.minimum
    )
    grid = grid_of(options, known)
    times = _times(grid, owner.cuts)
    out = [part is not None and not back[g] for g, part in enumerate(sent)]
    mine = [arrays for arrays, told in zip(found, out, strict=True) if told and arrays["n"]]
    rest = [arrays for arrays, told in zip(found, out, strict=True) if not told and arrays["n"]]
    left = [{name: np.sum([part[name] for part in rest], axis=0) for name in rest[0]}] if rest else []
    try:
        curves = iter(_told([*mine, *left], times, grid, owner) if mine else [])
    except Withheld:
        return [None if part is None else {} for part in sent]
    return [
        None if part is None else {} if not told else next(curves) if arrays["n"] else _at(arrays, times, grid, grid)
        for part, told, arrays in zip(sent, out, found, strict=True)
    ]


def _at(arrays: Arrays, times: Array, grid: Array, kept: Array) -> dict[str, Array]:
    """Counts at all ``times`` joined to those that are ``kept``, which stand on the grid; what is after the last of
    these is gone, with nothing known of it."""
    place = np.append(np.searchsorted(kept, times), len(kept))
    at = np.append(np.searchsorted(grid, kept), len(grid))[place]
    out = {"n": arrays["n"], **{name: np.zeros(len(grid) + 1, np.int64) for name in ("events", "gone")}}
    for name in ("events", "gone"):
        np.add.at(out[name], at, arrays[name])
    out["gone"][-1] += out["events"][-1]
    out["events"][-1] = 0
    return {**out, "hidden": np.asarray(0, np.int64)}


def _told(parts: Sequence[Arrays], times: Array, grid: Array, owner: Owner) -> list[dict[str, Array]]:
    """The parts' counts, joined at the same times of the grid. Raises ``Withheld``."""
    counts = np.array([part[name] for part in parts for name in ("events", "gone")])
    if few(counts.sum(1), owner.minimum):
        raise Withheld("fewer events, or fewer censorings, than this node's minimum")
    kept = _boundaries(counts, times, grid, owner)
    owner.used.extend(float(t) for t in kept)
    left = np.cumsum(counts.sum(0)[::-1])[::-1]  # rows from each time on
    from_grid = left[np.searchsorted(times, grid)]
    if len(kept) and kept[-1] == grid[-1]:
        return [_marked(_at(part, times, grid, kept), part, times, grid) for part in parts]
    after = int(left[np.searchsorted(times, grid[-1]) + 1])
    if after >= owner.minimum:
        if not len(kept):
            raise Withheld("fewer events, or fewer censorings, than this node's minimum at the times of this grid")
        return [_marked(_at(part, times, grid, kept), part, times, grid) for part in parts]
    enough = (
        np.flatnonzero(from_grid >= owner.minimum)[-1]
        if len(kept)
        else np.searchsorted(-from_grid, -((left[0] + 1) // 2), "right") - 1
    )  # at the median, where all of them are one
    last = float(grid[max(int(enough), 0)])
    if len(kept) and last <= kept[-1]:
        last = float(grid[np.searchsorted(grid, kept[-1]) + 1])
    joined = [_at(part, times, grid, np.append(kept, last)) for part in parts]
    at = int(np.searchsorted(grid, last))
    for part, out in zip(parts, joined, strict=True):  # those after it stand there, too
        for name in ("events", "gone"):
            before = int(out[name][:at].sum())
            out[name][at:] = 0
            out[name][at] = int(part[name].sum()) - before
    return [_marked(out, part, times, grid) for out, part in zip(joined, parts, strict=True)]


def _marked(out: Arrays, part: Arrays, times: Array, grid: Array) -> dict[str, Array]:
    """With ``hidden`` where counts do not stand at their own times."""
    exact = _at(part, times, grid, grid)
    moved = any(not np.array_equal(out[name], exact[name]) for name in ("events", "gone"))
    return {**out, "hidden": np.asarray(int(moved), np.int64)}


def few(counts: Array, minimum: int) -> bool:
    return bool(np.any((counts != 0) & (np.abs(counts) < minimum)))


def _boundaries(counts: Array, times: Array, grid: Array, owner: Owner) -> Array:
    """Times of the grid at which counts may be told: from one to the next, and to those that were shown, none or the
    minimum of each count. Of other breakdowns only the total is told beside them. The grid's end is one of them where
    it can be, since what is after the last is not told."""
    upto = np.concatenate([np.zeros((len(counts), 1), np.int64), np.cumsum(counts, axis=1)], axis=1)
    whole = np.stack([upto[0::2].sum(0), upto[1::2].sum(0)])
    places = [
        [0, *(int(np.searchsorted(times, t)) + 1 for t in shown), len(times) + 1]
        for shown in (owner.shown, *owner.others)
    ]
    own, others, mine = places[0], places[1:], set(owner.shown)

    def allowed(t: float, at: int, before: int) -> bool:
        if t in mine:
            return True
        on = bisect.bisect_right(own, at)
        left, right = upto[:, at] - upto[:, max(before, own[on - 1])], upto[:, own[on]] - upto[:, at]
        if not left.any() or not right.any() or few(left, owner.minimum) or few(right, owner.minimum):
            return False
        return not any(_close(whole, at, other, owner.minimum) for other in others)

    steps = [(float(t), int(at) + 1) for t, at in zip(grid, np.searchsorted(times, grid), strict=True)]
    kept = [(0.0, 0)]
    for t, at in steps:
        if allowed(t, at, kept[-1][1]):
            kept.append((t, at))
    for last in range(len(kept) - 1, -1, -1) if kept[-1][1] != steps[-1][1] else ():
        if allowed(*steps[-1], kept[last][1]):
            kept = [*kept[: last + 1], steps[-1]]
            break
    return np.array([t for t, _ in kept[1:]])


def _close(whole: Array, at: int, other: Sequence[int], minimum: int) -> bool:
    on = bisect.bisect_left(other, at)
    near = () if other[on] == at else (other[on - 1], other[on])
    return any(few(whole[:, at] - whole[:, one], minimum) for one in near)


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
    hidden = {"hidden": int(arrays["hidden"])} if "hidden" in arrays and arrays["hidden"] else {}
    return hidden | {
        "times": grid.tolist(),
        "survival": survival.tolist(),
        "lower": [_or_none(v) for v in lower],
        "upper": [_or_none(v) for v in upper],
        "at_risk": risk.astype(int).tolist(),
        "events": events.astype(int).tolist(),
        "median": float(grid[below[0]]) if len(below) else None,
    }


def _or_none(value: float) -> Json:
    return float(value) if math.isfinite(value) else None


ARGUMENTS = {"grid": "times at which survival is told, rising", "level": "of the confidence band"}


def table(columns: Sequence[str], options: Mapping[str, Json], value: Any) -> list[dict[str, Json]]:
    names = ("times", "survival", "lower", "upper", "at_risk", "events")
    heads = ("time", "survival", "lower", "upper", "at risk", "events")
    return [dict(zip(heads, row, strict=True)) for row in zip(*(value[name] for name in names), strict=True)]


def pictures(options: Mapping[str, Json], values: Mapping[str, Any]) -> list[Picture]:
    """All groups in one picture, since they are to be compared."""
    curves = {
        group: Step(value["times"], value["survival"], value["lower"], value["upper"])
        for group, value in values.items()
        if value and value["times"]
    }
    return [Steps(f"share that survives, with its {options['level']:.0%} band", curves)] if curves else []


STATISTIC = Statistic(
    doc="survival curve",
    columns=2,
    check=check,
    needs=needs,
    before=2,
    observe=observe,
    protect=protect,
    across=across,
    cuts=cuts,
    few=FEW,
    counts=("n", "events", "gone"),
    final=final,
    scalar=False,
    shown=Shown(roles=("time", "event"), arguments=ARGUMENTS, table=table, pictures=pictures),
)
