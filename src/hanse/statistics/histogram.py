"""A histogram: rows per bin, and rows below and above all bins.

Arguments: ``bin_edges``, at least two finite numbers in rising order (as in ``numpy.histogram``: a
bin holds its left edge, the last one both); or ``bins``, a number of equal bins over the range of all
sites, which is found from cells of at least the owner's minimum of rows, so that no extreme is seen.

Bins of 1 to minimum - 1 rows are told together with their neighbours (:mod:`hanse.statistics._joined`), those of groups
kept back with as many others as it takes that subtraction finds none. Two histograms whose edges differ a little
would tell who stands between the edges. So a node remembers the edges that it has shown of a column and group: a new
edge that would cut off fewer rows than the minimum from an earlier one is not shown; what lies around is told between
the earlier ones. (Groups are held against all rows together, and these against groups that all show an edge.)

Where a bin is not told by itself at some site (``hidden``: at how many), its count is an estimate, rows being spread
evenly over what they are told of, and ``counts_range`` holds it; None where that is wider than ``MOST`` of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.presentation import Bins, Picture, Shown, Summary
from hanse.queries import Arrays, Bounds, Item, Known, Lacking, Owner, Statistic, Values, same, take
from hanse.rough import bare
from hanse.statistics import _joined, cells
from hanse.statistics._powers import center
from hanse.suppression import hidden
from hanse.table import ColumnKind

MOST_BINS = 10_000
MOST = 0.25  # share of all rows that may be open in a bin of which a count is given
_BLOCK = 1 << 14  # values: what is computed of them stays in the cache of a core


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = take(options, bin_edges=None, bins=None)
    edges, bins = found["bin_edges"], found["bins"]
    if edges is not None and bins is not None:
        raise ConfigError("give bin_edges or bins, not both")
    if edges is not None:
        found["bin_edges"] = checked_edges(edges)
    elif bins is None:
        raise ConfigError(
            "a histogram needs bin_edges (a rising list of numbers), or bins (how many); "
            "give them in fetch_stats_with_args"
        )
    elif not isinstance(bins, int) or isinstance(bins, bool) or not 1 <= bins <= MOST_BINS:
        raise ConfigError(f"bins is {bins!r}; expected a whole number from 1 to {MOST_BINS}")
    return found


def checked_edges(edges: Json) -> list[float]:
    """Raises ``ConfigError`` unless there are two or more finite numbers in rising order."""
    if not isinstance(edges, (list, tuple, np.ndarray)) or not 2 <= len(edges) <= MOST_BINS + 1:
        raise ConfigError(f"bin_edges must be a list of 2 to {MOST_BINS + 1} numbers")
    try:
        array = np.array([float(e) for e in edges])
    except (TypeError, ValueError):
        raise ConfigError("bin_edges must be numbers") from None
    if not np.isfinite(array).all() or not np.all(np.diff(array) > 0):
        raise ConfigError("bin_edges must be finite and in rising order, each one once")
    found: list[float] = array.tolist()
    return found


def needs(item: Item) -> tuple[Item, ...]:
    if item.options["bin_edges"] is not None:
        return ()
    whole = replace(item, by=())
    return (same(whole, "mean"), same(whole, "cells", depth=0))


def edges_of(options: Mapping[str, Json], known: Known) -> Array:
    """(bins + 1,) edges: those given, or equal bins over the cells that are not empty."""
    if options["bin_edges"] is not None:
        return np.array(options["bin_edges"])
    border = cells.edges_of(known[:1]) + center(known[0])
    full = np.flatnonzero(known[1]["counts"])
    low, high = (border[full[0]], border[full[-1] + 1]) if len(full) else (0.0, 1.0)
    found = np.linspace(low, high, options["bins"] + 1)
    return found if np.all(np.diff(found) > 0) else low + np.arange(options["bins"] + 1) * max(abs(low), 1.0) * 1e-9


def _borders(own: Array) -> Array:
    """The edges, the last one moved up by the smallest step, so that its bin holds its end."""
    return np.append(own[:-1], np.nextafter(own[-1], np.inf))


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    border: Array = known.keep("border", lambda: _borders(edges_of(options, known)))
    if values.cuts:
        border = known.keep("with cuts", lambda: np.unique(np.concatenate([border, values.cuts])))
    return {"n": np.asarray(len(values.finite), np.int64), "counts": counted(values.finite, border)}


def counted(x: Array, edges: Array) -> Array:
    """(k + 2,) rows below all bins, in each bin [low, high), and above.

    Where the edges are even, a bin is found by arithmetic. Multiplying and subtracting keep the order of numbers, so a
    value between two edges comes to lie between what these two come to; only where an edge misses its whole number,
    and by no more than that, can a value land on the wrong side. Such values are searched for.
    """
    bins = len(edges) - 1
    counts = np.zeros(bins + 2, np.int64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        each = bins / (edges[-1] - edges[0])
        shift = edges[0] * each - 1
        missed = float(np.abs(edges * each - shift - np.arange(1, bins + 2)).max())
        unsure = 2 * missed + 4 * np.finfo(float).eps * (bins + 2)
        even = bool(unsure < 0.01)  # False for NaN
        for start in range(0, len(x), _BLOCK):
            part = x[start : start + _BLOCK]
            if even:
                place = part * each
                place -= shift
                np.clip(place, 0.5, bins + 1.5, out=place)
                at = place.astype(np.intp)
                place -= at
                place -= 0.5
                np.abs(place, out=place)
                near = np.flatnonzero(place > 0.5 - unsure)
                at[near] = np.searchsorted(edges, part[near], "right")
            else:
                at = np.searchsorted(edges, part, "right")
            counts += np.bincount(at, minlength=len(counts))
    return counts


def _between(fine: Array, border: Array, edges: Array) -> Array:
    """(k + 2,) rows below, between and above ``edges``, which are some of the ``border`` of ``fine``."""
    upto = np.cumsum(fine)[np.searchsorted(border, edges)]
    return np.diff(np.concatenate([[0], upto, [fine.sum()]]))


def _few_between(own: Array, earlier: Array, border: Array, upto: Array, minimum: int) -> Array:
    """(k + 1,) bool: edges from which 1 to ``minimum`` - 1 rows stand up to the next earlier one on either side."""
    out = np.zeros(len(own), bool)
    if not len(earlier):
        return out
    below, then = (upto[np.searchsorted(border, edges)] for edges in (own, earlier))
    at = np.searchsorted(earlier, own)
    for side, there in ((at - 1, at > 0), (np.minimum(at, len(earlier) - 1), at < len(earlier))):
        apart = np.abs(below - then[side])
        out |= there & (apart > 0) & (apart < minimum)
    return out & ~np.isin(own, earlier)


def cuts(options: Mapping[str, Json], known: Known) -> list[float]:
    """The edges at which this item counts; other histograms of the column have to know them."""
    return [float(e) for e in _borders(edges_of(options, known))]


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    """Counts the finer bins that earlier edges made in those of the query.

    Besides ``counts`` (k + 2,): the rows of each run at the ``first`` and at the ``last`` bin in which they can be, and
    the ``least`` and the ``most`` that can be in each bin."""
    own = _borders(edges_of(options, known))
    border = np.unique(np.concatenate([own, owner.cuts]))
    counts = _between(arrays["counts"], border, own)
    if owner.minimum <= 1:
        return _told(arrays["n"], counts, np.zeros(len(counts), bool))
    upto = np.cumsum(arrays["counts"])
    close = np.zeros(len(own), bool)
    for earlier in (owner.shown, *owner.others):
        close |= _few_between(own, np.array(earlier), border, upto, owner.minimum)
    close &= ~np.isin(own, owner.shown)
    if not owner.grouped:
        return _in_runs(arrays, np.union1d(own[~close], owner.shown), border, own, owner)
    back = hidden(counts, owner.minimum)
    back[:-1] |= close
    back[1:] |= close
    owner.used.extend(float(e) for i, e in enumerate(own) if not (back[i] and back[i + 1]))
    return _told(arrays["n"], counts, back)


def _told(n: Array, counts: Array, back: Array) -> dict[str, Array]:
    shown = np.where(back, 0, counts)
    return {
        "n": n,
        **dict.fromkeys(("counts", "first", "last", "least", "most"), shown),
        "hidden": back.astype(np.int64),
    }


def _in_runs(arrays: Arrays, ends: Array, border: Array, own: Array, owner: Owner) -> dict[str, Array]:
    """The rows between ``ends``, joined until they are enough, in the bins of ``own`` edges in which they can be."""
    inside = _between(arrays["counts"], border, ends)
    found = _joined.runs(inside, owner.minimum)
    rows = _joined.sums(inside, found)
    around = np.concatenate([[-np.inf], ends, [np.inf]])
    low, high = around[found[:, 0]], around[found[:, 1] + 1]
    owner.used.extend(float(e) for e in np.unique([low, high]) if np.isfinite(e))
    first, last = np.searchsorted(own, low, "right"), np.searchsorted(own, high, "left")
    bins = len(own) + 1
    least, most, counts = (np.zeros(bins, np.int64) for _ in range(3))
    for n, a, b, begin, end in zip(rows.tolist(), first.tolist(), last.tolist(), low, high, strict=True):
        most[a : b + 1] += n
        least[a] += n if a == b else 0
        begin, end = max(begin, float(own[0])), min(end, float(own[-1]))  # nothing is spread below and above all bins
        share = np.clip((np.append(own[a:b], np.inf) - begin) / max(end - begin, 1e-300), 0.0, 1.0)
        counts[a : b + 1] += np.diff(np.floor(n * share + 0.5), prepend=0).astype(np.int64)
    ends_at = {name: _joined.at(rows, place, bins) for name, place in (("first", first), ("last", last))}
    alone = {"least": least, "most": most, "hidden": (least != most).astype(np.int64)}
    return {"n": arrays["n"], "counts": counts, **ends_at, **alone}


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    counts, back = arrays["counts"], arrays["hidden"]
    found: dict[str, Json] = {"bin_edges": edges_of(options, known).tolist()}
    if not back.any():
        whole = counts.tolist()
        return {"counts": whole[1:-1], **found, "below": whole[0], "above": whole[-1]}
    lost = int(arrays["n"] - counts.sum())  # of groups: in some of the bins that were kept back
    ranges = [
        [int(a), int(b) + (lost if h else 0)] for a, b, h in zip(arrays["least"], arrays["most"], back, strict=True)
    ]
    shared = counts + lost * back / back.sum()
    values = [
        None if h and high - low > MOST * arrays["n"] else min(max(round(float(c)), low), high)
        for c, h, (low, high) in zip(shared, back, ranges, strict=True)
    ]
    return {
        "counts": values[1:-1],
        **found,
        "below": values[0],
        "above": values[-1],
        "hidden": back[1:-1].tolist(),
        "counts_range": ranges[1:-1],
        "below_range": ranges[0],
        "above_range": ranges[-1],
    }


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    """A row that is lacking may be in any bin, and beyond all; the edges are what they are."""

    def more(count: Json, own: Json) -> list[Json]:
        low, high = own or (count, count)
        return [low, high + lacking.rows]

    names = ("counts", "below", "above")
    own = {f"{name}_range": value.get(f"{name}_range") for name in names}
    bins = [
        more(*pair) for pair in zip(value["counts"], own["counts_range"] or [None] * len(value["counts"]), strict=True)
    ]
    ends = [bins, more(value["below"], own["below_range"]), more(value["above"], own["above_range"])]
    told = {f"{name}_range": found for name, found in zip(names, ends, strict=True)}
    found = {**value, **told}
    exact = {name: _exactly(found[name]) for name in told}
    return found, {**dict(zip(names, ends, strict=True)), **exact}


def _exactly(value: Json) -> Bounds:
    return [_exactly(one) for one in value] if isinstance(value, list) else (value, value)


def table(columns: Sequence[str], options: Mapping[str, Json], value: Any) -> list[dict[str, Json]]:
    edges, hidden = value["bin_edges"], value.get("hidden") or [0] * len(value["counts"])
    return [
        {"from": low, "to": high, "rows": None if sites and not count else count, "kept back at": sites}
        for low, high, count, sites in zip(edges, edges[1:], value["counts"], hidden, strict=False)
    ]


def pictures(options: Mapping[str, Json], values: Mapping[str, Any]) -> list[Picture]:
    return [
        Bins(
            "rows per bin"
            + ("; paler bins are estimates" if value.get("hidden") else "")
            + ("; dashed ones are not known" if None in value["counts"] else ""),
            value["bin_edges"],
            value["counts"],
            [bool(sites) for sites in value.get("hidden", ())],
            group,
        )
        for group, value in bare(values).items()
        if value
    ]


WHY = (
    "a count is None where more than a quarter of all rows may be in its bin or beside it (counts_range says between "
    "which numbers it lies); wider bins hold enough rows to be told"
)

STATISTIC = Statistic(
    doc="rows per bin",
    check=check,
    needs=needs,
    before=2,
    observe=observe,
    protect=protect,
    cuts=cuts,
    counts=("n", "counts", "first", "last", "least", "most"),
    final=final,
    pooled=pooled,
    fixed=("bin_edges", "hidden"),
    why=lambda found, options, arrays, known: WHY,
    scalar=False,
    shown=Shown(
        arguments={"bins": "how many equal bins over the range of all sites", "bin_edges": "edges of your own, rising"},
        asked={"bins": 20},
        summary=Summary(frozenset({ColumnKind.NUMERIC}), 6, {"bins": 20}, drawn=True),
        table=table,
        dated=("from", "to"),
        pictures=pictures,
    ),
)
