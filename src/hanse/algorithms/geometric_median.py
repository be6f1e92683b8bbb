"""Robust federated aggregation (RFA): the geometric median of what the sites changed, in place of their mean.

The point v of the least Σ_k p_k |v - Δ_k|, over all parameters together and with p_k the site's share of the training
rows, by the smoothed Weiszfeld algorithm from the median of each coordinate, by rows::

    β_k = p_k / max(ν, |v - Δ_k|)          v ← Σ_k β_k Δ_k / Σ_k β_k

A lie that lies far off counts by its direction alone, whatever its length; so sites with less than half of the rows
cannot move v without bound, nor the median that it begins at, from where the steps would not come back. They end when
no share β_k / Σ β moves by more than 1e-12, or after ``weiszfeld_steps``. Each reads all changes once.

References: Pillutla, Kakade and Harchaoui 2022, "Robust aggregation for federated learning", algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse.kinds import Combine, Gathered
from hanse.learning.aggregation import Aggregation, blocks, blockwise, sizes, trained
from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.server import RATE
from hanse.messages import Array, Json
from hanse.settings import Setting, number, whole
from hanse.training import Arrays

TAKES = "parameters"
SETTINGS = {
    **TRAINING,
    "server_learning_rate": RATE,
    "weiszfeld_steps": Setting(100, "the most steps towards the geometric median of a round", whole(1, 10_000)),
    "weiszfeld_smoothing": Setting(1e-6, "a change nearer than this counts as that near", number(0, 1, above=True)),
}


def median_by_rows(stack: Array, weights: Array) -> Array:
    """(m,) numbers, of each column of (sites, m) the median of its rows, all of which have their site's number.

    >>> median_by_rows(np.array([[0.0, 9.0], [1.0, 2.0], [9.0, 1.0]]), np.array([2.0, 1.0, 3.0]))
    array([5. , 1.5])
    """
    order = np.argsort(stack, axis=0, kind="stable")
    rows, half = np.cumsum(weights[order], axis=0), weights.sum() / 2
    places = [np.argmax(found, axis=0)[np.newaxis] for found in (rows >= half, rows > half)]
    low, high = (np.take_along_axis(stack, np.take_along_axis(order, p, axis=0), axis=0)[0] for p in places)
    return np.asarray(low / 2 + high / 2)


def _lengths(sites: Sequence[Arrays], weights: Array, places: Mapping[str, int], shares: Array | None) -> Array:
    """(m,) distances of the changes from Σ share_k Δ_k, or from the median of each coordinate."""
    squares = np.zeros(len(sites))
    with np.errstate(over="ignore"):
        for stack in blocks(sites, places):
            v = median_by_rows(stack, weights) if shares is None else shares @ stack
            squares += np.square(stack - v).sum(axis=1)
    return np.asarray(np.sqrt(squares))


def shares_of(sites: Sequence[Arrays], weights: Array, steps: int, smoothing: float) -> Array:
    """(m,) shares, of sum 1, by which the changes make up their geometric median."""
    shares: Array | None = None
    places = sizes(sites)
    for _ in range(steps):
        before = shares
        beta = weights / np.maximum(smoothing, _lengths(sites, weights, places, before))
        shares = beta / beta.sum()
        if before is not None and np.abs(shares - before).max() <= 1e-12:
            break
    assert shares is not None
    return shares


def _together(gathered: Gathered, settings: Mapping[str, Json]) -> dict[str, Array]:
    found = trained(gathered)
    sites, weights = [record.arrays for _, record in found], np.array([answer.weight for answer, _ in found])
    shares = shares_of(sites, weights, settings["weiszfeld_steps"], settings["weiszfeld_smoothing"])
    return blockwise(sites, lambda stack: shares @ stack)


ALGORITHM = averaging(__name__, SETTINGS, aggregation=Aggregation(Combine.EACH, _together))
