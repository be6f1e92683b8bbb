"""What exact boosting settles before its first tree: the edges of the bins, and what the first margin follows from.

The sites count their values in cells (:mod:`hanse.boosting.edges`), which are refined until the edges are known. With
the first counts they say how large the numbers are that the first margin follows from, with the second they sum them up
in units that this has settled; where it is a quantile of the targets, they count these
(:mod:`hanse.boosting.quantiles`). All of it comes from the same sites: where one is lost, all is counted anew, and
where one is lost again, without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np

from hanse.algorithms._boosting_site import Count, Question
from hanse.boosting import edges, quantiles, scales
from hanse.boosting.binning import Binning
from hanse.codec import ArrayOf, encode
from hanse.errors import RunFailed, Unusable
from hanse.kinds import EVERYONE, Ask, Combine, Gathered
from hanse.learning import rows as preparation
from hanse.messages import Array, Record

MOST = 24  # exchanges
_FEW = 8  # of so many bins one may be told apart; where more are full, two numbers a bin are as short


@dataclass(frozen=True, slots=True)
class Counting:
    """What is counted so far.

    Args:
        cells: as far as they are counted; ``asked``: which are counted next, None once all is settled.
        took: the nodes that count, of so many ``sites`` of the run; () before the first answer.
        weighted: whether rows have weights; their sum is the last one then.
        totals: what the first margin follows from, once it is known; ``units``: those of its sums.
        sought: the quantile that it is, as far as it is known.
        rows: of all sites; ``fullest``: of the bin that has most of them, 0 before that is known.
        apart: the bins that are so full that their sums are told apart from the others', where both sums of a bin are
            one number (:mod:`hanse.boosting.packed`); None: they are two. ``most``: rows of the fullest of the others.
        exchanges: so far; ``anew``: how often all was counted anew.
    """

    cells: edges.Cells
    asked: edges.Refinement | None
    weighted: bool = False
    took: tuple[str, ...] = ()
    sites: int = 0
    units: Annotated[Array, ArrayOf("int32", "sums")] | None = None
    totals: Annotated[Array, ArrayOf("float64", "sums")] | None = None
    sought: quantiles.Sought | None = None
    rows: int = 0
    fullest: int = 0
    apart: Annotated[Array, ArrayOf("int32", "apart")] | None = None
    most: int = 0
    exchanges: int = 0
    anew: int = 0

    @property
    def weight_unit(self) -> int | None:
        """The exponent of the unit of weights, once it is known; None where rows have none."""
        return int(self.units[-1]) if self.weighted and self.units is not None else None


def begun(prepared: Record, objective: Any, weighted: bool) -> Counting:
    """Nothing is counted."""
    counted = _counted(prepared, objective)
    sought = None if objective.quantile is None else quantiles.begin(np.zeros(1))
    return Counting(edges.none(), edges.first(counted), weighted, sought=sought)


def ask(counting: Counting, asked: edges.Refinement, objective: Any, prepared: Record) -> Ask:
    """The next counts, of all nodes or of those that count."""
    sizes: dict[str, tuple[str, tuple[int, ...]]] = {"counts": ("int64", (asked.size,)), "rows": ("int64", (1,))}
    columns = objective.begin(np.zeros(0, np.int64)).shape[1] + counting.weighted
    wants: Literal["magnitudes", "totals", "nothing"] = "nothing"
    if _unsettled(counting):
        wants, sizes["magnitudes"] = "magnitudes", ("int64", (columns, scales.SIZE))
    elif counting.totals is None and counting.sought is not None:
        sizes["ranks"] = ("int64", (len(counting.sought.group), quantiles.WIDTH))
    elif counting.totals is None:
        wants, sizes["totals"] = "totals", ("int64", (columns,))
    units = np.zeros(columns, np.int32) if counting.units is None else counting.units
    return Ask(
        encode(Question(prepared, Count(asked, wants, units, counting.sought if "ranks" in sizes else None))),
        Combine.SUM,
        "prepare",
        to=counting.took or EVERYONE,
        counts={"counts": None, "rows": None, **({} if counting.weighted else {"ranks": None})},
        arrays=sizes,
        sums={},
        fault=partial(scales.below, names=("ranks", "magnitudes")),
    )


def told(counting: Counting, gathered: Gathered, adapter: Any, prepared: Record) -> Counting:
    """With what was asked for."""
    asked, there = counting.asked, tuple(answer.node for answer in gathered.answers)
    if asked is None or (counting.took and there != counting.took):  # counts of other sites are no parts of these
        again = begun(prepared, adapter.objective, counting.weighted)
        took = there if counting.anew else ()  # who was lost twice, or says again what cannot be, is not waited for
        return replace(again, took=took, exchanges=counting.exchanges + 1, anew=counting.anew + 1)
    found = gathered.sum()
    rows = int(found["rows"][0])
    if (found["counts"] < 0).any() or rows <= 0:
        raise Unusable({a.node: "the counts of all sites add up to less than nothing" for a in gathered.answers})
    cells = edges.refined(counting.cells, asked, found["counts"])
    sites = len(gathered.nodes)
    now = replace(counting, took=there, sites=sites, cells=cells, rows=rows, exchanges=counting.exchanges + 1)
    if _unsettled(now):
        now = replace(now, units=scales.settled(found["magnitudes"]))
        if now.weighted and not found["magnitudes"][-1, 1:].any():
            raise RunFailed("all rows weigh 0, so there is nothing to learn; look at the column of weights")
    elif now.totals is None and now.sought is not None:
        now = _ranked(now, now.sought, found["ranks"], adapter.objective.quantile)
    elif now.totals is None and now.units is not None:
        now = replace(now, totals=np.ldexp(found["totals"].astype(np.float64), now.units))
    unclear = edges.unclear(cells, _most(adapter, prepared))
    if unclear is None and now.totals is None:
        zero = np.zeros(len(_counted(prepared, adapter.objective)), np.int64)
        unclear = edges.Refinement(zero, zero, zero, np.zeros(0, np.int64))
    if unclear is not None and now.exchanges < MOST:
        return replace(now, asked=unclear)
    if now.totals is None:
        raise RunFailed("the edges of the bins were not settled")
    return replace(now, asked=None)


def base(counting: Counting, adapter: Any) -> Array:
    """(outputs,) float32: the base score that the run states, or that follows from what was counted."""
    totals = np.zeros(0) if counting.totals is None else counting.totals
    if counting.weighted and counting.sought is None:
        return np.asarray(adapter.base(totals[:-1], float(totals[-1])), np.float32)
    return np.asarray(adapter.base(totals, float(counting.rows)), np.float32)


def _unsettled(counting: Counting) -> bool:
    """Whether units are needed that are not known."""
    return counting.units is None and (counting.sought is None or counting.weighted)


def _ranked(counting: Counting, sought: quantiles.Sought, ranks: Array, alpha: float) -> Counting:
    sought = quantiles.narrowed(sought, ranks, alpha, counting.weighted)
    if sought.known < quantiles.BITS * quantiles.EXCHANGES:
        return replace(counting, sought=sought)
    first = quantiles.quantiles(sought, np.array([counting.rows]), alpha, counting.weighted)
    return replace(counting, sought=sought, totals=first.astype(np.float64))


def settled(counting: Counting, adapter: Any, prepared: Record) -> tuple[Binning, Array | None]:
    """The bins of all columns, and the edges of intervals of time where the objective needs some."""
    found, many = edges.edges(counting.cells, _most(adapter, prepared)), categories(prepared)
    return Binning.of(found[: len(many)], many), found[len(many)] if adapter.objective.intervals else None


def filled(counting: Counting, bins: Binning, bounds: tuple[float | None, float | None]) -> Counting:
    """With how many rows of all sites bins have, and so which are told apart; nothing is counted any more. Categories
    are not counted, so each may have all rows.

    Args:
        bounds: of gradients and Hessians.
    """
    each = edges.filled(counting.cells, np.split(bins.edges, bins.first_edges[1:-1]), counting.rows)
    for column in np.flatnonzero(bins.categories).tolist():
        each[column][:] = counting.rows
    rows = np.concatenate([np.zeros(0, np.int64), *each])
    done = replace(counting, cells=edges.none(), fullest=int(rows.max(initial=0)))
    g, h = bounds
    if counting.weighted or g is None or h is None:
        return done
    full = rows > scales.room((g, h))
    if not len(rows) or full.sum() * _FEW > len(rows):
        return done
    return replace(done, apart=np.flatnonzero(full).astype(np.int32), most=int(rows[~full].max(initial=0)))


def categories(prepared: Record) -> Array:
    """(f,) int64: how many categories each column has that a number stands for; 0 of a column of numbers."""
    agreed = preparation.Agreed.of(prepared)
    if agreed.needs != preparation.CODED:
        return np.zeros(len(agreed.task.features), np.int64)
    return np.array([len(column.categories) for column in agreed.columns], np.int64)


def _counted(prepared: Record, objective: Any) -> Array:
    """(columns,) bool: whether each has values to be counted, and last the times where the objective needs them."""
    return np.append(categories(prepared) == 0, [True] * bool(objective.intervals))


def _most(adapter: Any, prepared: Record) -> Array:
    """(columns,) most bins of the values of each, as of :func:`_counted`: of 256, one is for missing values, so that
    one byte holds them all."""
    most = np.full(len(categories(prepared)), 255 if adapter.max_bin == 256 else adapter.max_bin)
    return np.append(most, [adapter.objective.intervals] * bool(adapter.objective.intervals)).astype(np.int64)
