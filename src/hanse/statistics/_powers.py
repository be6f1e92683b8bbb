"""Sums of powers about a pivot, which move to another pivot without loss.

For rows x and a pivot c: s_k = Σ (x - c)^k. About another pivot d, with δ = c - d,

    s_k' = Σ_j binom(k, j) δ^(k-j) s_j ,   s_0 = n

(Pébay 2008, with the first power kept, which is 0 only if c is the exact mean). Two sets of rows are
joined about their common mean, as Chan, Golub and LeVeque (1983) do, so nothing cancels, whatever
the order of the rows; the sums about the mean of all sites then simply add. A pivot is a float64 as
any row is, so x - c is rounded once, to a relative 1e-16, however far from 0 the rows stand.
"""

from __future__ import annotations

from math import comb

import numpy as np

from hanse.messages import Array
from hanse.queries import Arrays

_BLOCK = 1 << 13  # values: a block stays in the cache of a core, and BLAS starts no threads for it
_FLAT = 1e-9  # share of the sum of squares that is left about the mean, below which rows may be all equal


def observe(x: Array, order: int) -> dict[str, Array]:
    """``n``, ``pivot`` and ``s`` (order,) of the finite values ``x``. Sums that are too large for a
    float64 are infinite."""
    n = len(x)
    with np.errstate(over="ignore", invalid="ignore"):
        pivot = float(np.add.reduce(x) / n) if n else 0.0
        if not np.isfinite(pivot):
            pivot = float(x[0])
        s = _sums(x, pivot, order)
        if order > 1 and s[1] - s[0] ** 2 / max(n, 1) <= _FLAT * s[1] and np.all(x == x[:1]):
            return {"n": np.asarray(n, np.int64), "pivot": np.asarray(float(x[0]) if n else 0.0), "s": np.zeros(order)}
    return {"n": np.asarray(n, np.int64), "pivot": np.asarray(pivot), "s": s}


def _sums(x: Array, pivot: float, order: int) -> Array:
    s = np.zeros(order)
    for start in range(0, len(x), _BLOCK):
        d = x[start : start + _BLOCK] - pivot
        s[0] += np.add.reduce(d)
        power = d
        for k in range(1, order):
            if k == 1:
                s[1] += np.dot(d, d)
            else:
                power = power * d if k > 2 else d * d * d
                s[k] += np.add.reduce(power)
    return s


def moved(arrays: Arrays, pivot: float) -> Array:
    """(order,) sums about another pivot."""
    s = np.concatenate([[float(arrays["n"])], arrays["s"]])
    with np.errstate(over="ignore", invalid="ignore"):
        delta = float(arrays["pivot"] - np.float64(pivot))
        step = np.power(delta, np.arange(len(s)))  # not by Python's own power, which raises where it overflows
        found = [sum(comb(k, j) * step[k - j] * s[j] for j in range(k + 1)) for k in range(1, len(s))]
    return np.array(found)


def merge(a: Arrays, b: Arrays) -> Arrays:
    if not b["n"]:
        return a
    if not a["n"]:
        return b
    n = a["n"] + b["n"]
    with np.errstate(over="ignore", invalid="ignore"):
        means = [float(part["pivot"] + part["s"][0] / part["n"]) for part in (a, b)]
        # not means[0] + share * (means[1] - means[0]): the difference of two large ones may overflow
        pivot = means[0] if means[0] == means[1] else means[0] * float(a["n"] / n) + means[1] * float(b["n"] / n)
    return {"n": n, "pivot": np.asarray(pivot), "s": moved(a, pivot) + moved(b, pivot)}


def center(mean: Arrays) -> float:
    """The mean of all sites, from what :mod:`hanse.statistics.mean` shares."""
    return float(mean["sum"] / mean["n"]) if mean["n"] else 0.0


def about_mean(n: float, s: Array) -> Array:
    """(order + 1,) central sums (n, 0, m2, m3, ...) from sums about a pivot that is nearly the mean."""
    exact = {"n": np.asarray(n), "pivot": np.asarray(0.0), "s": s}
    return np.concatenate([[n], moved(exact, float(s[0] / n))])
