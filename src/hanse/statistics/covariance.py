"""Covariances of all pairs of columns, each over the rows in which both are there (as pandas does).

With masks M, values Z about the means of all sites (0 where missing), the site sends N = M'M, A = Z'M,
B = Z'Z and D = (Z∘Z)'M, which add; then cov_ij = (B_ij - A_ij A_ji / N_ij) / (N_ij - ddof).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.messages import Array, Json
from hanse.queries import NUMBERS, Arrays, Item, Known, Owner, Statistic, Values, Withheld, same
from hanse.statistics import variance
from hanse.statistics._powers import center


def needs(item: Item) -> tuple[Item, ...]:
    return tuple(same(Item("mean", (name,), "{}", item.by), "mean") for name in item.columns)


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    x = np.column_stack([c.values for c in values.columns]).astype(np.float64)
    there = np.isfinite(x)
    count = there.sum(0)
    x[~there] = 0.0
    pivot = x.sum(0) / np.maximum(count, 1)
    z = x - pivot
    z[~there] = 0.0
    m = there.astype(np.float64)
    pairs = np.rint(m.T @ m).astype(np.int64)
    return {"n": pairs.max(), "N": pairs, "pivot": pivot, "A": z.T @ m, "B": z.T @ z, "D": (z * z).T @ m}


def moved(arrays: Arrays, pivot: Array) -> dict[str, Array]:
    """A, B and D about another pivot."""
    n, a, b, d = arrays["N"], arrays["A"], arrays["B"], arrays["D"]
    delta = (arrays["pivot"] - pivot)[:, None]
    return {
        "A": a + delta * n,
        "B": b + delta.T * a + delta * a.T + delta * delta.T * n,
        "D": d + 2 * delta * a + delta**2 * n,
    }


def merge(a: Arrays, b: Arrays) -> Arrays:
    pairs = a["N"] + b["N"]
    own = [np.diagonal(part["N"]) for part in (a, b)]
    there = np.maximum(own[0] + own[1], 1)
    means = [p["pivot"] + np.diagonal(p["A"]) / np.maximum(n, 1) for p, n in zip((a, b), own, strict=True)]
    pivot = np.where(own[0] > 0, means[0] + np.where(own[1] > 0, means[1] - means[0], 0) * own[1] / there, means[1])
    one, two = moved(a, pivot), moved(b, pivot)
    return {"n": pairs.max(), "N": pairs, "pivot": pivot, **{name: one[name] + two[name] for name in one}}


def share(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    pivot = np.array([center(mean) for mean in known])
    return {"n": arrays["n"], "N": arrays["N"], **moved(arrays, pivot)}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    if np.any((arrays["N"] > 0) & (arrays["N"] < owner.minimum)):
        raise Withheld("a pair of columns has fewer common rows than this node's minimum")
    return arrays


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    n, a, b = arrays["N"], arrays["A"], arrays["B"]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (b - a * a.T / n) / (n - options["ddof"])
    return table(np.where(n > options["ddof"], found, np.nan))


def table(matrix: Array) -> Json:
    """Rows of numbers, None where undefined."""
    return [[float(v) if np.isfinite(v) else None for v in row] for row in matrix]


STATISTIC = Statistic(doc="covariances", kinds=NUMBERS, columns=0, check=variance.check, needs=needs, later=True,
                      observe=observe, merge=merge, share=share, protect=protect, final=final,
                      scalar=False)  # fmt: skip
