"""The mean of each column over the rows in which it and another are both there, for all pairs.

With masks M and rows X (0 where missing), the site sends N = M'M and S = X'M, which add; row i,
column j of S/N is the mean of column i where j is there too. The covariance is summed about it.

A pair that would give few rows away (:mod:`hanse.statistics._pairs`) is told as if no row had it, and
``hidden`` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse.messages import Array, Json
from hanse.presentation import Shown
from hanse.queries import NUMBERS, Arrays, Known, Owner, Statistic, Values
from hanse.statistics._pairs import hidden, over_groups, pairs, triples

FEW = "pairs of columns with few common rows, or few in which one of them is missing"


def rows(values: Values) -> tuple[Array, Array]:
    """(n, p) values, 0 where missing, and where they are there."""
    x = np.column_stack([c.values for c in values.columns]).astype(np.float64, copy=False)
    there = np.isfinite(x)
    if not there.all():
        x = np.where(there, x, 0.0)
    return x, there


def products(x: Array, there: Array) -> Array:
    """(p, p) sums of ``x`` (0 where missing) over the rows in which another column is there."""
    if there.all():
        return np.repeat(x.sum(0)[:, None], x.shape[1], 1)
    return np.asarray(x.T @ there.astype(np.float64))


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    x, there = rows(values)
    found = pairs(there)
    with np.errstate(over="ignore", invalid="ignore"):
        return {"n": found.max(), "N": found, "three": triples(there), "S": products(x, there)}


def merge(a: Arrays, b: Arrays) -> Arrays:
    found = a["N"] + b["N"]
    return {"n": found.max(), "N": found, "three": a["three"] + b["three"], "S": a["S"] + b["S"]}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    return told(arrays, hidden(arrays["N"], arrays["three"], owner.minimum))


def across(
    found: Sequence[Arrays],
    sent: Sequence[Arrays | None],
    shape: Sequence[int],
    owner: Owner,
    options: Mapping[str, Json],
    known: Known,
) -> list[Arrays | None]:
    """What is told of groups beside that of all rows."""
    n = np.stack([arrays["N"] for arrays in found])
    # rows without a label are the rest of what is told: where they are many, that gives nobody away
    back = np.stack([part["hidden"] > 0 if part else np.full(n.shape[1:], part is not None) for part in sent])
    back = over_groups(n, back, shape, owner.minimum)
    return [told(part, back[g]) if part else part for g, part in enumerate(sent)]


def told(arrays: Arrays, back: Array) -> dict[str, Array]:
    """The arrays with zeros for the pairs that are kept back (``back``, bool), which ``hidden`` marks."""
    found = {
        name: np.where(back, np.zeros((), array.dtype), array)
        for name, array in arrays.items()
        if name not in ("n", "three", "hidden")
    }
    return {**found, "n": found["N"].max(), "hidden": back.astype(np.int64)}


def fewer(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    """Rows of the pairs that some sites keep back."""
    return [
        [int(n) if back else None for n, back in zip(*row, strict=True)]
        for row in zip(arrays["N"], arrays["hidden"], strict=True)
    ]


def means(arrays: Arrays) -> Array:
    """(p, p); 0 where a pair has no rows."""
    return np.asarray(arrays["S"] / np.maximum(arrays["N"], 1))


def table(matrix: Array) -> Json:
    """Rows of numbers, None where undefined."""
    return [[float(v) if np.isfinite(v) else None for v in row] for row in matrix]


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    return table(np.where(arrays["N"] > 0, means(arrays), np.nan))


STATISTIC = Statistic(
    doc="means over the rows of each pair of columns",
    kinds=NUMBERS,
    columns=0,
    observe=observe,
    merge=merge,
    whole=lambda arrays, options, known: arrays,
    of_whole=lambda arrays, options, known: {**arrays, "n": arrays["N"].max()},
    protect=protect,
    across=across,
    few=FEW,
    sums=True,
    counts=("n", "N"),
    final=final,
    fewer=fewer,
    scalar=False,
    shown=Shown(offered=False),
)
