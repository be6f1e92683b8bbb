"""Quantiles, by linear interpolation between rows (as in NumPy), in counts that add over sites.

Arguments: ``q``, a number or a list of numbers in [0, 1]. By default the counts are those of
:mod:`hanse.statistics.cells` at ``depth`` (1 to 4; more is finer, at the price of one more pass over
the data each); with ``bin_edges``, those of that histogram.

The pooled quantile lies between :func:`bounds`: the row of rank r is, whatever stands where in the joined cells, not
before the cell in which cum(first) reaches r, nor behind that in which cum(last) does. The value between them is that
of the rows as they are spread over their runs (:func:`hanse.statistics._joined.spread`), interpolated between two of
them. In a cell so narrow that a round number in it can hardly be chance, a row is that number (whole years, 0 and 1);
in a column of whole steps it is on one of these (:mod:`hanse.statistics._steps`). There is no value, None, where a
bound lies outside all runs, as nothing is told of extremes, and where it stands more than 1e24 from the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.presentation import Shown, Summary
from hanse.queries import NUMBERS, Arrays, Bounds, Item, Known, Lacking, Statistic, same, take
from hanse.statistics import _steps, cells, histogram
from hanse.statistics._powers import center

GOOD = 1 / 1000  # a rank error that asks for no finer cells
CHANCE = 0.01  # of a round number to lie in a cell of a column that has none
Ends = tuple[float | None, float | None]


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = take(options, q=0.5, depth=1, bin_edges=None)
    listed = found["q"] if isinstance(found["q"], (list, tuple)) else [found["q"]]
    for q in listed:
        if isinstance(q, bool) or not isinstance(q, (int, float)) or not 0 <= q <= 1:
            raise ConfigError(f"q is {q!r}; expected a number from 0 to 1, or a list of them")
    if not listed:
        raise ConfigError("q is an empty list")
    found["q"] = [float(q) for q in listed] if isinstance(found["q"], (list, tuple)) else float(found["q"])
    if found["depth"] not in range(cells.DEEPEST + 1):
        raise ConfigError(f"depth is {found['depth']!r}; expected 0 to {cells.DEEPEST}")
    if found["bin_edges"] is not None:
        found["bin_edges"] = histogram.checked_edges(found["bin_edges"])
    return found


def needs(item: Item) -> tuple[Item, ...]:
    options = item.options
    if options["bin_edges"] is not None:
        return (same(item, "histogram", bin_edges=options["bin_edges"]),)
    finest = same(item, "cells", depth=options["depth"])
    return (*cells.needs(finest), finest)


class _Rows:
    """Where the rows of all sites stand, as they are told: the i-th of ``n``, counted from 0."""

    def __init__(self, known: Known) -> None:
        self.edges, self.counts = cells.edges_of(known[:-1]), known[-1]["counts"]
        self._upto, self._center = np.cumsum(self.counts), center(known[0])
        self.n = int(self._upto[-1]) if len(self._upto) else 0
        self._step = _steps.decimals(self.edges, known[-1]["last"], self._center) if self.n else None
        joined = not np.array_equal(known[-1]["first"], known[-1]["last"])
        self.stepped = joined and self._step is not None  # each row on a step, and no two neighbours for certain

    def cell(self, row: int) -> int:
        """That in which a row stands."""
        return int(np.searchsorted(self._upto, row, "right"))

    def nearest(self, q: float) -> int:
        """The row that is nearest to a quantile; of two as near, the first."""
        return math.ceil(q * (self.n - 1) - 0.5)

    def at(self, row: int) -> float:
        """Its value."""
        cell = self.cell(row)
        low, high = (float(edge) + self._center for edge in self.edges[cell : cell + 2])
        if (found := _round(low, high)) is not None:
            return found
        share = (row + 0.5 - float(self._upto[cell] - self.counts[cell])) / float(self.counts[cell])
        found = low + (high - low) * share
        return found if self._step is None else _steps.moved(found, low, high, self._step)


def value(known: Known, q: float) -> float | None:
    """The ``q``-quantile, interpolated between the two rows around it (of rows that stand on steps somewhere in their
    run, the nearer one: most pairs have one value); None where the cells that are known do not bound it."""
    rows = _Rows(known)
    if not rows.n:
        return None
    least, most = between(known, q)
    if least is None or most is None:
        return None
    place = q * (rows.n - 1)
    row, part = int(math.floor(place)), place - math.floor(place)
    if rows.stepped:
        row, part = rows.nearest(q), 0.0
    found = rows.at(row)
    if part:
        found += (rows.at(row + 1) - found) * part
    return min(max(found, least), most)


def between(known: Known, q: float, lacking: Lacking | None = None) -> Ends:
    """Between which values the pooled quantile lies; None where nothing is known of that side.

    Of n rows and k more, the row of rank r is not before that of rank r - k of the n, nor behind that of rank r.
    """
    if lacking is None or not lacking.rows:
        return _between(known, q, 0.0)
    n, span = int(known[-1]["first"].sum()), lacking.span or (None, None)

    def end(side: int, moved: float) -> float | None:
        inside = 0 <= q * (n - 1) + moved <= n - 1
        found = _between(known, q, moved)[side] if inside else None
        return span[side] if found is None else found

    return end(0, -lacking.rows * (1 - q)), end(1, lacking.rows * q)


def _between(known: Known, q: float, moved: float) -> Ends:
    """The same of the rows that are told, so many places from the quantile."""
    edges, own = cells.edges_of(known[:-1]), known[-1]
    early, late = np.cumsum(own["first"]), np.cumsum(own["last"])
    if not len(early) or not early[-1]:
        return None, None
    place = q * (int(early[-1]) - 1) + moved
    rank, part = int(math.floor(place)), place - math.floor(place)
    rows = [(rank, 1 - part), (min(rank + 1, int(early[-1]) - 1), part)]
    low = [(int(np.searchsorted(early, r, "right")), share) for r, share in rows if share]
    high = [(int(np.searchsorted(late, r, "right")) + 1, share) for r, share in rows if share]
    ends = [None if any(c in (0, len(edges) - 1) for c, _ in side) else side for side in (low, high)]
    least, most = (
        None if e is None else sum(float(edges[c]) * share for c, share in e) + center(known[0]) for e in ends
    )
    return least, most


def _round(low: float, high: float) -> float | None:
    """The number with the fewest decimals in [low, high], where that many would not be there by chance."""
    width = high - low
    for decimals in range(7):
        if width * 10**decimals > CHANCE:
            return None
        found = round((low + high) / 2, decimals)
        slack = 4 * math.ulp(max(abs(low), abs(high)))
        if low - slack <= found <= high + slack:
            return found + 0.0
    return None


def bounds(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Bounds:
    def one(q: float) -> Bounds:
        return between(known, q) if options["bin_edges"] is None else _histogram_bounds(options, known, q)

    q = options["q"]
    return [one(x) for x in q] if isinstance(q, list) else one(q)


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    q = options["q"]
    if options["bin_edges"] is not None:
        return value, None
    return value, [between(known, x, lacking) for x in q] if isinstance(q, list) else between(known, q, lacking)


def rank_error(options: Mapping[str, Json], known: Known) -> tuple[float, float, float]:
    """Share of all rows and width of the worst cell in which a wanted quantile stands, and the width of
    all cells that are not empty."""
    listed = options["q"] if isinstance(options["q"], list) else [options["q"]]
    worst, span = (0.0, 0.0), 0.0
    if options["bin_edges"] is None and (rows := _Rows(known)).n:
        for q in listed:
            cell = rows.cell(rows.nearest(q))
            width = float(rows.edges[cell + 1] - rows.edges[cell])
            worst = max(worst, (float(rows.counts[cell] / rows.n), width))
        full = np.flatnonzero(rows.counts)
        span = float(rows.edges[full[-1] + 1] - rows.edges[full[0]])
    return (*worst, span)


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    q = options["q"]
    if options["bin_edges"] is not None:
        return _from_histogram(options, known)
    return [value(known, one) for one in q] if isinstance(q, list) else value(known, q)


def _curves(options: Mapping[str, Json], known: Known) -> tuple[Array, Array, int]:
    """(bins + 1,) the fewest and the most rows that can lie below each edge, and how many there are."""
    whole, n = known[0], int(known[0]["n"])
    early, late = np.cumsum(whole["first"])[:-1], np.cumsum(whole["last"])[:-1]
    lost = n - int(whole["counts"].sum())  # rows of bins that were kept back: nobody says in which of them
    back = np.cumsum(whole["hidden"] > 0)
    return late + np.where(back[:-1] == back[-1], lost, 0), early + np.where(back[:-1] > 0, lost, 0), n


def _histogram_bounds(options: Mapping[str, Json], known: Known, q: float) -> tuple[float | None, float | None]:
    edges, (fewest, most, n) = np.array(options["bin_edges"]), _curves(options, known)
    if not n:
        return None, None
    place = q * (n - 1)
    low = np.flatnonzero(most <= math.floor(place))  # at each of these edges no more rows lie below than come before
    high = np.flatnonzero(fewest > math.ceil(place))
    return float(edges[low[-1]]) if len(low) else None, float(edges[high[0]]) if len(high) else None


def _from_histogram(options: Mapping[str, Json], known: Known) -> Json:
    edges, (fewest, most, n) = np.array(options["bin_edges"]), _curves(options, known)

    def one(q: float) -> float | None:
        least, highest = _histogram_bounds(options, known, q)
        if least is None or highest is None:
            return None
        middle = (fewest + most) / 2
        return float(np.clip(np.interp(q * n, middle, edges), least, highest))

    return [one(q) for q in options["q"]] if isinstance(options["q"], list) else one(options["q"])


HELP = "more rows at each site would tell it, or a smaller minimum_cell of their owners"


def why(found: Json, options: Mapping[str, Json], arrays: Arrays, known: Known) -> str:
    """Of each quantile without a value: where it may be."""
    listed = options["q"] if isinstance(options["q"], list) else [options["q"]]
    values = found if isinstance(found, list) else [found]
    ends = bounds(arrays, {**options, "q": listed}, known)
    return untold([(q, *own) for q, v, own in zip(listed, values, ends, strict=True) if v is None])


def untold(found: Sequence[tuple[float, float | None, float | None]]) -> str:
    """Of (q, least, most).

    >>> untold([(0.05, None, 36.2)]).partition(",")[0]
    'no value for 0.05 (36.2 or less)'
    """
    each = []
    for q, least, most in found:
        ends = [f"{least:.6g} or more" if least is not None else "", f"{most:.6g} or less" if most is not None else ""]
        where = " and ".join(filter(None, ends))
        each.append(f"{q:g} ({where})" if where else f"{q:g}")
    return (
        f"no value for {', '.join(each)}, which may lie among the outermost rows of a site, and where these are is not "
        f"told; {HELP}"
    )


def finer(item: Item, known: Known) -> Item | None:
    """The next depth, until the rank error is good or the cell is narrower than a billionth of the range (many
    equal values)."""
    options = item.options
    share, width, span = rank_error(options, known)
    if share <= GOOD or width <= 1e-9 * span or options["bin_edges"] is not None or options["depth"] >= cells.DEEPEST:
        return None
    return same(item, item.stat, **{**options, "depth": options["depth"] + 1})


def in_row(options: Mapping[str, Json], value: Any) -> dict[str, Json]:
    """Columns of a row: ``50%`` and the like to the value."""
    q = options["q"]
    values = value if isinstance(value, list) else [value]
    return {f"{100 * one:g}%": v for one, v in zip(q if isinstance(q, list) else [q], values, strict=True)}


STATISTIC = Statistic(
    doc="quantiles",
    check=check,
    needs=needs,
    before=-1,
    final=final,
    bounds=bounds,
    pooled=pooled,
    why=why,
    error=lambda options, known: rank_error(options, known)[0],
    finer=finer,
    shown=Shown(
        first=("q",),
        arguments={
            "q": "one or several, from 0 to 1",
            **cells.ARGUMENTS,
            "bin_edges": "edges of a histogram to take them from",
        },
        summary=Summary(NUMBERS, 5, {"q": [0.05, 0.25, 0.5, 0.75, 0.95]}),
        on_scale=True,
        cells=in_row,
    ),
)
