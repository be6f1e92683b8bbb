"""The Mann-Whitney U test, the sister of the t-test that asks for no distribution. Two-sided, with
corrections for ties and continuity.

Arguments: ``group``, ``groups`` as in ``t_test``; ``depth`` of the cells (:mod:`hanse.statistics.cells`)
in which both groups are counted. Rows of one cell count as ties. ``error`` bounds how far U is from
its exact value for that: half of the pairs that stand in one cell, 0 where no cell holds rows of both
groups. Values with few different numbers (such as ages in years) stand one to a cell from depth 2 on,
and U is then exact where the owner's minimum is 1; otherwise joining cells moves fewer than the
minimum of rows past any value at each node and group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from hanse.messages import Json
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
    a, b = (known[1]["counts"][i].astype(float) for i in (first, second))
    n1, n2 = float(a.sum()), float(b.sum())
    found: dict[str, Json] = {"groups": [labels[first], labels[second]], "u": None, "p": None, "error": None}
    if not n1 or not n2:
        return found
    u = float((a * (np.cumsum(b) - b / 2)).sum())
    n, ties = n1 + n2, a + b
    spread = n1 * n2 / 12 * (n + 1 - float((ties**3 - ties).sum()) / (n * (n - 1)))
    found |= {"u": u, "error": float((a * b).sum() / 2)}
    if spread > 0:
        z = (abs(u - n1 * n2 / 2) - 0.5) / math.sqrt(spread)
        found["p"] = min(1.0, 2 * NormalDist().cdf(-z))
    return found


STATISTIC = Statistic(doc="Mann-Whitney U test", check=check, needs=needs, final=final, scalar=False)
