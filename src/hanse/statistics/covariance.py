"""Covariances of all pairs of columns, each over the rows in which both are there (as pandas does).

With masks M and values Z about the means of each pair over all sites (0 where missing), the site
sends N = M'M, A = Z'M, B = Z'Z and D = (Z∘Z)'M, which add; then
cov_ij = (B_ij - A_ij A_ji / N_ij) / (N_ij - ddof). A is nearly 0, so nothing cancels.

A node takes all products about the means of its columns at once. Where the rows of a pair stand so
far from those, beside their own spread, that moving the sums would cost digits (one column of
outliers, present where the other is missing), it takes that pair again about its own means.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.messages import Array, Json
from hanse.presentation import Shown
from hanse.queries import NUMBERS, Arrays, Item, Known, Statistic, Values, same
from hanse.statistics import pair_means, variance
from hanse.statistics._pairs import pairs, triples
from hanse.table import ColumnKind

_FAR = 1e-4  # share of a sum of squares that is left about the pair's own mean: fewer digits are lost above


def needs(item: Item) -> tuple[Item, ...]:
    return (same(item, "pair_means"),)


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    x, there = pair_means.rows(values)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = x.sum(0) / np.maximum(there.sum(0), 1)
        z = x - mean if there.all() else np.where(there, x - mean, 0.0)
        n = pairs(there)
        found: dict[str, Array] = {
            "N": n,
            "pivot": np.repeat(mean[:, None], len(mean), 1),
            "A": pair_means.products(z, there),
            "B": z.T @ z,
            "D": pair_means.products(z * z, there),
        }
        whole = found["D"]
        if not there.all():
            own = found["pivot"] + found["A"] / np.maximum(n, 1)
            found |= {**moved(found, own), "pivot": own}
        far = (n > 0) & ~(found["D"] - found["A"] ** 2 / np.maximum(n, 1) > _FAR * whole)
        for i, j in np.argwhere(np.triu(far | far.T)):
            both = there[:, i] & there[:, j]
            _again(found, int(i), int(j), x[both, i], x[both, j])
    return {"n": n.max(), "three": triples(there), **found}


def _again(found: Arrays, i: int, j: int, x: Array, y: Array) -> None:
    """The sums of one pair about the means of its own rows."""
    own = [float(v[0]) if np.all(v == v[0]) else float(v.sum() / len(v)) for v in (x, y)]
    u, v = x - own[0], y - own[1]
    for (a, b), mean, d in (((i, j), own[0], u), ((j, i), own[1], v)):
        found["pivot"][a, b], found["A"][a, b], found["D"][a, b] = mean, d.sum(), np.dot(d, d)
    found["B"][i, j] = found["B"][j, i] = np.dot(u, v)


def moved(arrays: Arrays, pivot: Array) -> dict[str, Array]:
    """A, B and D about other (p, p) pivots."""
    n, a, b, d = arrays["N"], arrays["A"], arrays["B"], arrays["D"]
    with np.errstate(over="ignore", invalid="ignore"):
        delta = arrays["pivot"] - pivot
        return {
            "A": a + delta * n,
            "B": b + (delta.T * a + delta * a.T) + delta * delta.T * n,  # symmetric to the last bit
            "D": d + 2 * delta * a + delta**2 * n,
        }


def merge(a: Arrays, b: Arrays) -> Arrays:
    n = a["N"] + b["N"]
    with np.errstate(over="ignore", invalid="ignore"):
        one, two = (part["pivot"] + part["A"] / np.maximum(part["N"], 1) for part in (a, b))
        share = a["N"] / np.maximum(n, 1)
        middle = np.where(one == two, one, one * share + two * (1 - share))
    pivot = np.where(b["N"] == 0, a["pivot"], np.where(a["N"] == 0, b["pivot"], middle))
    first, second = moved(a, pivot), moved(b, pivot)
    return {
        "n": n.max(),
        "N": n,
        "three": a["three"] + b["three"],
        "pivot": pivot,
        **{name: first[name] + second[name] for name in first},
    }


def share(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    kept = {name: arrays[name] for name in ("n", "N", "hidden")}
    return {**kept, **moved(arrays, pair_means.means(known[0]))}


def whole(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    kept = {name: arrays[name] for name in ("n", "N", "three")}
    return {**kept, **moved(arrays, pair_means.means(known[0]))}


def of_whole(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    return {**arrays, "n": arrays["N"].max(), "pivot": pair_means.means(known[0])}


def central(arrays: Arrays) -> tuple[Array, Array]:
    """(p, p) sums of products and of squares about the means of each pair."""
    n, a, b, d = (arrays[name] for name in ("N", "A", "B", "D"))
    n = np.maximum(n, 1)
    return b - a * a.T / n, d - a**2 / n


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    n = arrays["N"]
    found = central(arrays)[0] / np.maximum(n - options["ddof"], 1)
    return pair_means.table(np.where(n > options["ddof"], found, np.nan))


STATISTIC = Statistic(
    doc="covariances",
    kinds=NUMBERS,
    columns=0,
    check=variance.check,
    needs=needs,
    later=True,
    observe=observe,
    merge=merge,
    share=share,
    whole=whole,
    of_whole=of_whole,
    protect=pair_means.protect,
    across=pair_means.across,
    few=pair_means.FEW,
    sums=True,
    counts=("n", "N"),
    final=final,
    fewer=pair_means.fewer,
    scalar=False,
    matrix=True,
    shown=Shown(usual=frozenset({ColumnKind.NUMERIC, ColumnKind.BOOLEAN}), arguments=variance.ARGUMENTS),
)
