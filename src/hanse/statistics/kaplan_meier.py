"""The Kaplan-Meier estimate of survival, with Greenwood's band on the log-log scale.

Columns: time (not negative) and event (1; 0: censored; other codes are refused). Arguments: ``grid``, rising times; an
event or a censoring in (g[k-1], g[k]] counts at g[k], so with a grid that holds all times (such as every day) the curve
is the pooled one. Without a grid: 100 equal steps over the range of all sites. ``level``: of the band.

What a node tells does not depend on the grid. It counts events and censorings in cells of its own, the numbers of
``BITS`` binary digits, and joins those to runs (:mod:`hanse.statistics._joined`) that hold its minimum of rows; events
and censorings are told of several runs together that hold the minimum of both, or none. So do rows that have a time
and no event recorded (``unseen``), which other statistics of the times count and the curve does not. The runs of groups
are made of those of all rows, and those of two columns' groups of those of each. Every grid is answered from these runs
alone: two grids tell no more than one, and no answer makes another rougher. A run ends at the shortest number before
the next row, which is no row's own time.

The pooled curve lies in ``survival_range`` wherever the rows of a run stand in it (:mod:`hanse.statistics._survival`);
the band is wide enough for all that lies between, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.messages import Array, Json
from hanse.presentation import Picture, Shown, StepCurve, StepCurves
from hanse.queries import Arrays, Bounds, Item, Known, Lacking, Owner, Statistic, Values, Withheld, same, take
from hanse.rough import bare
from hanse.statistics import _joined, _survival, _total_curve, cells
from hanse.statistics._powers import center
from hanse.statistics._times import HELD, KINDS, TimeCells, cell_end, runs
from hanse.statistics.histogram import checked_edges
from hanse.suppression import hidden, hidden_groups

STEPS = 100
LESS = (
    "fewer events, or fewer censorings, than this node's minimum, or too few rows that have one of time and event and "
    "lack the other"
)
FEW = "times are told in runs of the minimum of events and of censorings: least and most say how far that may move it"


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
    """(k,) ascending times at which the curve is told: as asked, else equal steps up to the last time that any site
    has."""
    if options["grid"] is not None:
        return np.array(options["grid"])
    full = np.flatnonzero(known[1]["counts"])
    high = float(cells.edges_of(known[:1])[full[-1] + 1] + center(known[0])) if len(full) else 1.0
    return np.linspace(0, max(high, 1e-300), STEPS + 1)[1:]


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    """``events`` and ``gone`` at each of ``times``, which are those of the grid and the ends of cells; ``off``: rows
    that are at no time of the grid. In no curve are those ``unseen``, which have a time and no event recorded, nor the
    events and censorings that are ``timeless``."""
    grid = known.keep("grid", lambda: grid_of(options, known))
    time, event = (c.values for c in values.columns)
    timed, known_event = np.isfinite(time), np.isfinite(event)
    fine = timed & known_event
    lone, unseen = event[known_event & ~timed], np.maximum(time[timed & ~known_event], 0.0)
    time, event = time[fine], event[fine]
    if not np.isin(event, (0, 1)).all():
        raise DataError(
            "the column of events has other values than 0 and 1 here; write 1 (or true) where the event was seen and 0 "
            "where a row left without it: of codes such as 1 and 2 every row would count as an event"
        )
    event = event == 1
    if np.any(time < 0):
        raise DataError("there are negative survival times here; a time counts from 0, mark what is none as missing")
    every = np.concatenate([time, unseen])
    at = np.searchsorted(grid, every, "left")
    next_time = np.append(grid, np.inf)[at]
    times, place = np.unique(np.minimum(next_time, cell_end(every)), return_inverse=True)
    kinds = np.concatenate([np.where(event, 0, 1), np.full(len(unseen), 2)])
    counts = [np.bincount(place.reshape(-1)[kinds == kind], minlength=len(times)) for kind in range(len(HELD))]
    off = (next_time != every) & (at < len(grid))
    return {
        "n": np.asarray(len(time), np.int64),
        "times": times,
        **{kind: found.astype(np.int64) for kind, found in zip(HELD, counts, strict=True)},
        "timeless": np.array([(lone == 1).sum(), (lone == 0).sum()], np.int64),
        "off": np.asarray(int(off[: len(time)].sum()), np.int64),
    }


def merge(a: Arrays, b: Arrays) -> Arrays:
    times = np.union1d(a["times"], b["times"])
    out: dict[str, Array] = {"times": times, **{name: a[name] + b[name] for name in ("n", "off", "timeless")}}
    for kind in HELD:
        out[kind] = np.zeros(len(times), np.int64)
        for part in (a, b):
            out[kind][np.searchsorted(times, part["times"])] += part[kind]
    return out


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    grid = grid_of(options, known)
    if owner.total and not arrays["n"]:
        return _total_curve.empty(arrays["n"])
    if not owner.total and (owner.minimum <= 1 or not arrays["n"]):
        return _exact(arrays, grid)
    if owner.grouped and owner.minimum > 1:
        return {"n": arrays["n"]}  # all groups together, below
    if ((arrays["timeless"] > 0) & (arrays["timeless"] < owner.minimum)).any():
        raise Withheld(LESS)
    here = TimeCells([arrays])
    if owner.total:
        [out] = _total_curve.told([arrays], here, here.held(arrays), [], owner.minimum)
        return out
    [out] = _told([arrays], here, here.held(arrays), [], grid, owner)
    return out


def _exact(arrays: Arrays, grid: Array) -> dict[str, Array]:
    """Counts at the times of the grid, and after all of them."""
    at = np.searchsorted(grid, arrays["times"], "left")
    counts = {kind: np.zeros(len(grid) + 1, np.int64) for kind in KINDS}
    for kind in KINDS:
        np.add.at(counts[kind], at, arrays[kind])
    rows = counts["events"] + counts["gone"]
    out = {f"{name}{end}": c for name, c in [*counts.items(), ("rows", rows)] for end in ("_first", "_last")}
    off = np.asarray(int(arrays["off"] > 0), np.int64)
    return {"n": arrays["n"], **counts, **out, "off": off, "hidden": np.zeros((), np.int64)}


def across(
    found: Sequence[Arrays],
    sent: Sequence[Arrays | None],
    shape: Sequence[int],
    owner: Owner,
    options: Mapping[str, Json],
    known: Known,
) -> list[Arrays | None]:
    """The curves of groups, in the same runs; what they leave of that of all rows is one more part."""
    grid, here = grid_of(options, known), TimeCells(found)
    counts = np.array([here.held(part) for part in found])
    lone = np.array([part["timeless"] for part in found])
    back = np.array([part is not None and not part for part in sent])
    named = np.array([part is not None for part in sent])
    out = named & ~_back(counts, lone, back, shape, owner.minimum)
    mine = [arrays for arrays, told in zip(found, out, strict=True) if told and arrays["n"]]
    among = _parts(counts, out), _margins(counts, lone, shape, owner)
    try:
        if owner.total:
            parts = _total_curve.told(mine, here, *among, owner.minimum) if mine else []
        else:
            parts = _told(mine, here, *among, grid, owner) if mine else []
    except Withheld:
        return [None if part is None else {} for part in sent]
    curves = iter(parts)
    none = _total_curve.empty(np.zeros((), np.int64)) if owner.total else None
    return [
        None if part is None else {} if not told else next(curves) if arrays["n"] else none or _exact(arrays, grid)
        for part, told, arrays in zip(sent, out, found, strict=True)
    ]


def _back(counts: Array, lone: Array, back: Array, shape: Sequence[int], minimum: int) -> Array:
    """(g,) groups that are kept back, and others with them: with few events or few censorings in all, or few rows that
    have one of time and event and lack the other."""
    totals = counts.sum(-1)
    return hidden_groups(np.concatenate([totals, lone], 1), back & (totals[:, : len(KINDS)].sum(1) > 0), shape, minimum)


def _parts(counts: Array, told: Array) -> Array:
    """(3 p, cells) of the groups that are told, and of all others together."""
    mine = counts[told].reshape(len(HELD) * int(told.sum()), counts.shape[-1])  # -1 is unclear where there are no cells
    return np.concatenate([mine, counts[~told].sum(0)])


def _margins(counts: Array, lone: Array, shape: Sequence[int], owner: Owner) -> list[Array]:
    """Of two columns the parts of each by itself, as if its groups were asked alone."""
    found = []
    for axis in range(len(shape)) if len(shape) > 1 else ():
        groups = np.moveaxis(counts.reshape(*shape, *counts.shape[1:]), axis, 0).sum(1)
        apart = np.moveaxis(lone.reshape(*shape, *lone.shape[1:]), axis, 0).sum(1)
        back = hidden(groups[:, : len(KINDS)].sum((1, 2)), owner.minimum)
        back[-1] = False  # rows without a label
        told = ~_back(groups, apart, back, [len(groups)], owner.minimum)
        told[-1] = False
        found.append(_parts(groups, told))
    return found


def _told(
    mine: Sequence[Arrays], here: TimeCells, parts: Array, margins: Sequence[Array], grid: Array, owner: Owner
) -> list[dict[str, Array]]:
    """The curves of ``mine`` in the runs of ``parts``, which end where those of all rows and of each of ``margins``
    end. Raises ``Withheld``."""
    both, rows = runs(parts, margins, owner.minimum)
    if not len(both):
        raise Withheld(LESS)
    whole = parts[0 :: len(HELD)].sum(0) + parts[1 :: len(HELD)].sum(0)
    n = _joined.sums(whole, rows)
    borders = here.borders()
    alone = rows[:, 0] == rows[:, 1]
    begins, ends = (rows[:, 0] == 0) & ~alone, (rows[:, 1] == len(borders) - 1) & ~alone  # runs without an extent
    low, high = _joined.extents(np.concatenate([[0.0], borders[:-1], [np.inf]]), rows, n, 0.0)
    low, high = np.where(alone, here.starts[rows[:, 0]], low), np.where(alone, here.ends[rows[:, 1]], high)
    if len(rows) == 1 and not alone[0]:  # it has no neighbour to say how long it is
        high[0] = 2 * here.ends[np.searchsorted(np.cumsum(whole), (n[0] + 1) // 2)]
    first = np.where(begins, 0, np.searchsorted(grid, low, "right"))
    last = np.where(ends, len(grid), np.searchsorted(grid, np.where(alone, here.ends[rows[:, 1]], borders[rows[:, 1]])))
    place = np.searchsorted(both[:, 1], rows[:, 1])  # of each run of rows, the run of both kinds
    out = []
    for part in mine:
        counts = here.counts(part)
        inside = _joined.sums(counts.sum(0), rows)
        kinds = [_joined.sums(kind, both) for kind in counts]
        found: dict[str, Array] = {}
        for name, own, other in zip(KINDS, kinds, kinds[::-1], strict=True):
            even, most, least = _shares(inside, place, own, other)
            found[name] = _spread(even, low, high, first, last, grid)
            found[f"{name}_first"] = _joined.at(most, first, len(grid) + 1)
            found[f"{name}_last"] = _joined.at(least, last, len(grid) + 1)
        found["rows_first"], found["rows_last"] = (_joined.at(inside, at, len(grid) + 1) for at in (first, last))
        moved = any(not np.array_equal(found[f"{k}{end}"], found[k]) for k in KINDS for end in ("_first", "_last"))
        # whether all stand on the grid would tell of single rows, if one asked for grids that lack a time each
        off, hidden_here = np.ones((), np.int64), np.asarray(int(moved), np.int64)
        out.append({"n": part["n"], **found, "off": off, "hidden": hidden_here})
    return out


def _shares(inside: Array, place: Array, own: Array, other: Array) -> tuple[Array, Array, Array]:
    """Of one kind in each run of rows: evenly shared out, and as many as can be up to its end, and as few.

    Args:
        inside: (r,) rows.
        place: (r,) in which run of both kinds it lies.
        own, other: (b,) how many of this kind, and of the other one, that holds.
    """
    upto = np.cumsum(inside)
    begin = np.searchsorted(place, np.arange(len(own)))
    so_far = upto - np.concatenate([[0], upto])[begin][place]  # rows of the run of both kinds up to here
    whole = np.maximum(own + other, 1)[place]
    cumulative = (
        np.floor(own[place] * (so_far / whole) + 0.5).astype(np.int64),
        np.minimum(own[place], so_far),
        np.maximum(0, so_far - other[place]),
    )
    new = np.concatenate([[True], place[1:] != place[:-1]])
    even, most, least = (np.where(new, c, c - np.concatenate([[0], c[:-1]])) for c in cumulative)
    return even, most, least


def _spread(n: Array, low: Array, high: Array, first: Array, last: Array, grid: Array) -> Array:
    """(k + 1,) the rows of each run evenly in time, at the next time of the grid."""
    out = np.zeros(len(grid) + 1, np.int64)
    for rows, a, b, one, end in zip(n.tolist(), low, high, first.tolist(), last.tolist(), strict=True):
        if one == end or not rows:
            out[one] += rows
            continue
        share = np.clip((np.append(grid[one:end], np.inf) - a) / max(b - a, 1e-300), 0, 1)
        out[one : end + 1] += np.diff(np.concatenate([[0.0], np.floor(rows * share + 0.5)])).astype(np.int64)
    return out


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    if "survival" in arrays:
        return _total_curve.final(arrays, options)
    grid = grid_of(options, known)
    found = _survival.curve(arrays, grid, options["level"])
    if arrays["hidden"] or arrays["off"]:
        found |= _survival.ranges(arrays, grid, options["level"])
    return found | ({"hidden": int(arrays["hidden"])} if arrays["hidden"] else {})


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    """Rows that are lacking may leave at any time, by an event or without; the band holds that of all rows."""
    grid = grid_of(options, known)
    if "rows_first" not in arrays or not value["times"]:
        return value, None
    more, level = _survival.with_more(arrays, lacking.rows), options["level"]
    wide, times = _survival.ranges(more, grid, level), _survival.curve(more, grid, level)["times"]
    at = np.searchsorted(times, value["times"]).tolist()
    told: dict[str, Json] = {name: [wide[name][i] for i in at] for name in _WIDER}
    low_risk = [own[0] for own in value["at_risk_range"]] if "at_risk_range" in value else value["at_risk"]
    told["at_risk_range"] = [[min(a, own), b] for (a, b), own in zip(told["at_risk_range"], low_risk, strict=True)]
    ends = told["survival_range"]
    survival = [v if b - a <= _survival.MOST else None for v, (a, b) in zip(value["survival"], ends, strict=True)]
    told |= {"survival": survival, "median_range": wide["median_range"]}
    told["median"] = None if wide["median_range"][1] is None else value["median"]
    exact = {name: _exactly(told[name]) for name in (*_WIDER, "median_range")}
    ranges = {name: told[f"{name}_range"] for name in ("survival", "at_risk", "events", "median")}
    return {**value, **told}, {**exact, **ranges}


def _exactly(value: Json) -> Bounds:
    return [_exactly(one) for one in value] if isinstance(value, list) else (value, value)


def why(found: Json, options: Mapping[str, Json], arrays: Arrays, known: Known) -> str:
    """Of which parts of the curve there is no number."""
    said, ends = [], found.get("median_range")
    if None in found["survival"]:
        said.append("survival is None where it may be anywhere in half of its scale (survival_range says where)")
    if found["median"] is None and (ends is None or ends[1] is None):
        upto = f"{ends[0]:.6g}" if ends else "all times of the grid"
        said.append(f"the median is not told: more than half may survive {upto}")
    if None in found["lower"] or None in found["upper"]:
        said.append("there is no band where nobody is left")
    if ends is not None:
        said.append("more events and censorings at each site, or a smaller minimum_cell, tell more")
    return "; ".join(said) or "there are no events"


_WIDER = ("lower", "upper", "survival_range", "at_risk_range", "events_range", "events_so_far_range")
ARGUMENTS = {"grid": "times at which survival is told, rising", "level": "of the confidence band"}


def table(columns: Sequence[str], options: Mapping[str, Json], value: Any) -> list[dict[str, Json]]:
    names = ("times", "survival", "lower", "upper", "at_risk", "events")
    heads = ("time", "survival", "lower", "upper", "at risk", "events")
    return [dict(zip(heads, row, strict=True)) for row in zip(*(value[name] for name in names), strict=True)]


def pictures(options: Mapping[str, Json], values: Mapping[str, Any]) -> list[Picture]:
    """All groups in one picture, since they are to be compared."""
    curves = {
        group: StepCurve(value["times"], value["survival"], value["lower"], value["upper"])
        for group, value in bare(values).items()
        if value and value["times"]
    }
    return [StepCurves(f"share that survives, with its {options['level']:.0%} band", curves)] if curves else []


STATISTIC = Statistic(
    doc="survival curve",
    columns=2,
    check=check,
    needs=needs,
    before=2,
    observe=observe,
    merge=merge,
    protect=protect,
    across=across,
    whole=_total_curve.whole,
    of_whole=_total_curve.of_whole,
    few=FEW,
    counts=("n", *KINDS, *(f"{kind}_{end}" for kind in (*KINDS, "rows") for end in ("first", "last"))),
    final=final,
    pooled=pooled,
    fixed=("times", "hidden"),
    why=why,
    scalar=False,
    shown=Shown(roles=("time", "event"), arguments=ARGUMENTS, table=table, pictures=pictures),
)
