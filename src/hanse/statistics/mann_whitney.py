"""The Mann-Whitney U test, the sister of the t-test that asks for no distribution. Two-sided, with
corrections for ties and continuity.

Arguments: ``group``, ``groups`` as in ``t_test``; ``depth`` of the cells (:mod:`hanse.statistics.cells`)
in which both groups are counted. Rows of one cell count as ties, those of joined cells as spread over them, the
same way in both groups. What that misses of U is linear in how far the rows stand from where they were spread, but for
a product of two such errors (Hajek's projection); of each group the sum of these distances is known (``places``), so
the linear part is taken out (:func:`shift`).

``u_range`` and ``p_range`` hold U and p of the pooled rows whatever stands where inside: U is largest with one group at
the ``last`` of its cells and the other at the ``first`` of its. ``error`` is how far U may be off. p is None where its
range would leave open what it says (:mod:`hanse.statistics._p_values`).

Values with few different numbers (such as ages in years) stand one to a cell from depth 2 on; U and p
are then exact where the owner's minimum is 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hanse.messages import Array, Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Bounds, Item, Known, Lacking, Statistic, levels_of, same, unpack
from hanse.statistics import _groups, _p_values, cells

_MOST = 60  # rows that are lacking, of which all parts of the two groups are tried


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = _groups.check(options, depth=2)
    cells.check({"depth": found["depth"]})
    return found


def needs(item: Item) -> tuple[Item, ...]:
    grouped = replace(_groups.by_group(item))
    return (levels_of(item.options["group"]), same(grouped, "cells", depth=item.options["depth"], pooled=True))


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    labels = unpack(known[0]["labels"])
    first, second = _groups.two(options, labels, known[1]["n"])
    a, b = ({name: known[1][name][i] for name in ("counts", "first", "last", "places")} for i in (first, second))
    n1, n2 = int(a["counts"].sum()), int(b["counts"].sum())
    found: dict[str, Json] = {
        "groups": [labels[first], labels[second]],
        "u": None,
        "p": None,
        "error": None,
        "u_range": None,
        "p_range": None,
    }
    if not n1 or not n2:
        return found
    # twice U, in whole numbers of any size, as the rest: differences of large ones lose nothing
    twice = _pairs(a["counts"], 2 * np.cumsum(b["counts"]) - b["counts"])
    least = 2 * _pairs(a["first"], np.cumsum(b["last"]) - b["last"])
    most = 2 * _pairs(a["last"], np.cumsum(b["first"]))
    twice = min(max(twice + round(2 * (shift(a, b) - shift(b, a))), least), most)
    exact = all(np.array_equal(part[name], part["counts"]) for part in (a, b) for name in ("first", "last"))
    found |= {"u_range": [least / 2, most / 2], "error": max(most - twice, twice - least) / 2}
    found["u"] = twice / 2
    both = a["counts"] + b["counts"]
    ties = sum(t**3 - t for t in both.tolist() if t > 1)
    p = _tails(twice, n1, n2, ties if exact else 0)
    if p is not None:
        n, half = n1 + n2, n1 * n2
        # rows that may have one value: those that can stand in a cell, so many at most
        early, late = np.cumsum(a["first"] + b["first"]), np.cumsum(a["last"] + b["last"])
        crowd = int((early - late + a["last"] + b["last"]).max())
        tied = ties if exact else n * (crowd**2 - 1)
        far = max(abs(least - half), abs(most - half))
        near = 0 if least <= half <= most else min(abs(least - half), abs(most - half))
        low, high = _tails(half + far, n1, n2, tied), _tails(half + near, n1, n2, 0)
        found["p_range"] = [0.0 if low is None else low, high]
        if exact or (high is not None and _p_values.tell(found["p_range"][0], high)):
            found["p"] = p
    return found


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    """A row that is lacking wins against none or all of the other group, and may be of either: p for each number of
    them, at the ends of U. U is of other pairs then; it has no value beside the told one."""
    if value["p_range"] is None or lacking.rows > _MOST:
        return value, None
    chosen = _groups.two(options, unpack(known[0]["labels"]), known[1]["n"])
    n1, n2 = (int(known[1]["counts"][place].sum()) for place in chosen)
    low, high = (round(2 * end) for end in value["u_range"])
    far, near, u = 1.0, 0.0, list(value["u_range"])
    first, last = (sum(known[1][name][place] for place in chosen) for name in ("first", "last"))
    early, late = np.cumsum(first), np.cumsum(last)
    crowd = int((early - late + last).max())
    for a in range(lacking.rows + 1):
        for b in range(lacking.rows + 1 - a):
            most = high + 2 * (a * n2 + b * n1 + a * b)
            half, tied = (n1 + a) * (n2 + b), (n1 + n2 + a + b) * ((crowd + a + b) ** 2 - 1)
            off = max(abs(low - half), abs(most - half))
            least = 0 if low <= half <= most else min(abs(low - half), abs(most - half))
            far = min(far, _tails(half + off, n1 + a, n2 + b, tied) or 0.0)
            near = max(near, _tails(half + least, n1 + a, n2 + b, 0) or 1.0)
            u = [min(u[0], low / 2), max(u[1], most / 2)]
    clear = value["p"] is not None and _p_values.tell(far, near)
    found = {**value, "p": value["p"] if clear else None, "p_range": [far, near], "u_range": u}
    found["error"] = max(u[1] - value["u"], value["u"] - u[0])
    exact = {name: [(end, end) for end in found[name]] for name in ("u_range", "p_range")}
    return found, {"u": tuple(u), "p": (far, near), "error": (found["error"],) * 2, **exact}


def of_all(options: Mapping[str, Json], known: Known, told: Known) -> Json:
    """The test of all rows, each in its cell."""
    counts = known[1]["counts"]
    places = counts @ np.arange(counts.shape[1])
    cells_of = {**known[1], "first": counts, "last": counts, "places": places}
    return final({}, options, Known([known[0], cells_of]))


def shift(own: Arrays, other: Arrays) -> float:
    """How many pairs more a group's rows win against ``other`` where they stand than where they were spread, of first
    order: the sum of their distances in cells, times the rows of ``other`` in a cell of those that runs of ``own`` go
    over. 0 where none do."""
    open_ = np.cumsum(own["first"]) - np.cumsum(own["last"])
    over = int(open_.sum())
    if not over:
        return 0.0
    distance = int(own["places"]) - int(own["counts"] @ np.arange(len(own["counts"])))
    return distance * float(open_ @ other["counts"]) / over


def _pairs(a: Array, b: Array) -> int:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def _tails(twice: int, n1: int, n2: int, ties: int) -> float | None:
    """The p-value of half of ``twice``; None where all values are tied."""
    n = n1 + n2
    if n**3 - n <= ties:
        return None
    spread = n1 * n2 * (n**3 - n - ties) / (12 * n * (n - 1))
    z = (abs(twice - n1 * n2) - 1) / 2 / math.sqrt(spread)
    return min(1.0, math.erfc(z / math.sqrt(2)))  # 1 - erf would have no digits far out


STATISTIC = Statistic(
    doc="Mann-Whitney U test",
    check=check,
    needs=needs,
    final=final,
    pooled=pooled,
    of_all=of_all,
    why=lambda found, options, arrays, known: _p_values.why(found),
    scalar=False,
    shown=Shown(roles=("column",), arguments={**_groups.ARGUMENTS, **cells.ARGUMENTS}),
)
