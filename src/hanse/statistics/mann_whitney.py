"""The Mann-Whitney U test, the sister of the t-test that asks for no distribution. Two-sided, with
corrections for ties and continuity.

Arguments: ``group``, ``groups`` as in ``t_test``; ``depth`` of the cells (:mod:`hanse.statistics.cells`)
in which both groups are counted. Rows of one cell count as ties. ``error`` bounds how far U is from
its exact value for that: half of the pairs that stand in one cell, 0 where no cell holds rows of both
groups. ``p_range`` holds the p-value whatever stands in the cells, all of it tied or nothing.

Values with few different numbers (such as ages in years) stand one to a cell from depth 2 on; U and p
are then exact where the owner's minimum is 1. Otherwise joining cells moves fewer than the minimum of
rows past any value at each node and group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Item, Known, Statistic, levels_of, same, unpack
from hanse.statistics import _groups, cells


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
    a, b = (known[1]["counts"][i] for i in (first, second))
    n1, n2 = int(a.sum()), int(b.sum())
    found: dict[str, Json] = {
        "groups": [labels[first], labels[second]],
        "u": None,
        "p": None,
        "error": None,
        "p_range": None,
    }
    if not n1 or not n2:
        return found
    # twice U, in whole numbers of any size, as the rest: differences of large ones lose nothing
    twice = sum(x * y for x, y in zip(a.tolist(), (2 * np.cumsum(b) - b).tolist(), strict=True))
    unsure = sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))
    ties = sum(t**3 - t for t in (a + b).tolist() if t > 1)
    found |= {"u": twice / 2, "error": unsure / 2}
    p = _tails(twice, n1, n2, ties)
    if p is not None:
        far = abs(twice - n1 * n2)
        least, most = _tails(n1 * n2 + far + unsure, n1, n2, ties), _tails(n1 * n2 + max(far - unsure, 0), n1, n2, 0)
        found |= {"p": p, "p_range": [least, most]}
    return found


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
    scalar=False,
    shown=Shown(roles=("column",), arguments={**_groups.ARGUMENTS, **cells.ARGUMENTS}),
)
