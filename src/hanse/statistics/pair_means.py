"""The mean of each column over the rows in which it and another are both there, for all pairs.

With masks M and rows X (0 where missing), the site sends N = M'M and S = X'M, which add; row i,
column j of S/N is the mean of column i where j is there too. The covariance is summed about it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.messages import Array, Json
from hanse.queries import NUMBERS, Arrays, Known, Owner, Statistic, Values, Withheld


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


def pairs(there: Array) -> Array:
    """(p, p) rows in which both columns are there."""
    if there.all():
        return np.full((there.shape[1],) * 2, len(there), np.int64)
    m = there.astype(np.float64)
    return np.rint(m.T @ m).astype(np.int64)


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    x, there = rows(values)
    found = pairs(there)
    with np.errstate(over="ignore", invalid="ignore"):
        return {"n": found.max(), "N": found, "S": products(x, there)}


def merge(a: Arrays, b: Arrays) -> Arrays:
    found = a["N"] + b["N"]
    return {"n": found.max(), "N": found, "S": a["S"] + b["S"]}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    if np.any((arrays["N"] > 0) & (arrays["N"] < owner.minimum)):
        raise Withheld("a pair of columns has fewer common rows than this node's minimum")
    return arrays


def means(arrays: Arrays) -> Array:
    """(p, p); 0 where a pair has no rows."""
    return np.asarray(arrays["S"] / np.maximum(arrays["N"], 1))


def table(matrix: Array) -> Json:
    """Rows of numbers, None where undefined."""
    return [[float(v) if np.isfinite(v) else None for v in row] for row in matrix]


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    return table(np.where(arrays["N"] > 0, means(arrays), np.nan))


STATISTIC = Statistic(doc="means over the rows of each pair of columns", kinds=NUMBERS, columns=0, observe=observe,
                      merge=merge, protect=protect, final=final, scalar=False)  # fmt: skip
