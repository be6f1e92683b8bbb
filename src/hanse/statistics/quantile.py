"""Quantiles, by linear interpolation in counts that add over sites.

Arguments: ``q``, a number or a list of numbers in [0, 1]. By default the counts are those of
:mod:`hanse.statistics.cells` at ``depth`` (1 to 4; more is finer, at the price of one more pass over
the data each); with ``bin_edges``, those of that histogram.

The error is one of rank: the value stands at q give or take :func:`rank_error`, the largest share of
rows that one cell on the way holds (about 1/4096 at the right depth), plus less than the owner's
minimum of rows at each node. Quantiles of very few rows are therefore rough, by intent. None where it
stands more than 1e24 from the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.presentation import Shown, Summary
from hanse.queries import NUMBERS, Arrays, Item, Known, Statistic, same, take
from hanse.statistics import cells, histogram
from hanse.statistics._powers import center

GOOD = 1 / 1000  # a rank error that asks for no finer cells


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


def _cell(known: Known, q: float) -> tuple[int, float, Array, Array]:
    """The cell in which q stands, how far inside it, all edges and counts."""
    edges, counts = cells.edges(known[:-1]), known[-1]["counts"]
    upto = np.cumsum(counts)
    n = int(upto[-1])
    rank = min(max(q * (n - 1) + 0.5, 0.5), n - 0.5)  # the i-th of n rows stands at i + 1/2
    cell = int(np.searchsorted(upto, rank, "left"))
    share = (rank - (upto[cell] - counts[cell])) / counts[cell]
    return cell, float(share), edges, counts


def value(known: Known, q: float) -> float | None:
    if not known[-1]["counts"].sum():
        return None
    cell, share, edges, _ = _cell(known, q)
    if edges[cell] >= cells.FARTHEST or edges[cell + 1] <= -cells.FARTHEST:
        return None  # not in this cell, but anywhere beyond
    return float(edges[cell] + (edges[cell + 1] - edges[cell]) * share) + center(known[0])


def rank_error(options: Mapping[str, Json], known: Known) -> tuple[float, float, float]:
    """Share of all rows and width of the worst cell in which a wanted quantile stands, and the width of
    all cells that are not empty."""
    listed = options["q"] if isinstance(options["q"], list) else [options["q"]]
    worst, span = (0.0, 0.0), 0.0
    if options["bin_edges"] is None and known[-1]["counts"].sum():
        for q in listed:
            cell, _, edges, counts = _cell(known, q)
            worst = max(worst, (float(counts[cell] / counts.sum()), float(edges[cell + 1] - edges[cell])))
            full = np.flatnonzero(counts)
            span = float(edges[full[-1] + 1] - edges[full[0]])
    return (*worst, span)


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    q = options["q"]
    if options["bin_edges"] is not None:
        return _from_histogram(options, known)
    return [value(known, one) for one in q] if isinstance(q, list) else value(known, q)


def _from_histogram(options: Mapping[str, Json], known: Known) -> Json:
    whole = known[0]["counts"]
    n, below = int(whole.sum()), int(whole[0])
    edges, counts = np.array(options["bin_edges"]), whole[1:-1]
    upto = np.concatenate([[0], np.cumsum(counts)]) + below

    def one(q: float) -> float | None:
        return float(np.interp(q * n, upto, edges)) if counts.sum() and below <= q * n <= upto[-1] else None

    return [one(q) for q in options["q"]] if isinstance(options["q"], list) else one(options["q"])


def finer(item: Item, known: Known) -> Item | None:
    """The next depth, until the rank error is good or the cell is narrower than a billionth of the range (many
    equal values)."""
    options = item.options
    share, width, span = rank_error(options, known)
    if share <= GOOD or width <= 1e-9 * span or options["bin_edges"] is not None or options["depth"] >= cells.DEEPEST:
        return None
    return same(item, item.stat, **{**options, "depth": options["depth"] + 1})


def in_row(options: Mapping[str, Json], value: Any) -> dict[str, Json]:
    q = options["q"]
    values = value if isinstance(value, list) else [value]
    return {f"{100 * one:g}%": v for one, v in zip(q if isinstance(q, list) else [q], values, strict=True)}


STATISTIC = Statistic(
    doc="quantiles",
    check=check,
    needs=needs,
    before=-1,
    final=final,
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
