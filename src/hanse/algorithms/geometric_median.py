"""Robust federated aggregation (RFA): the geometric median of what the sites changed, in place of their mean.

The point v of the least Σ_k p_k |v - Δ_k|, over all parameters together and with p_k the site's share of the training
rows, by the smoothed Weiszfeld algorithm from the median of each coordinate::

    β_k = p_k / max(ν, |v - Δ_k|)          v ← Σ_k β_k Δ_k / Σ_k β_k

A lie that lies far off counts by its direction alone, whatever its length; so sites with less than half of the rows
cannot move v without bound. The steps end when no share β_k / Σ β moves by more than 1e-12, or after
``weiszfeld_steps``. Each reads all changes once.

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


def _lengths(sites: Sequence[Arrays], places: Mapping[str, int], shares: Array | None) -> Array:
    """(m,) distances of the changes from Σ share_k Δ_k, or from the median of each coordinate."""
    squares = np.zeros(len(sites))
    with np.errstate(over="ignore"):
        for stack in blocks(sites, places):
            v = np.median(stack, axis=0) if shares is None else shares @ stack
            squares += np.square(stack - v).sum(axis=1)
    return np.asarray(np.sqrt(squares))


def shares_of(sites: Sequence[Arrays], weights: Array, steps: int, smoothing: float) -> Array:
    """(m,) shares, of sum 1, by which the changes make up their geometric median."""
    shares: Array | None = None
    places = sizes(sites)
    for _ in range(steps):
        before = shares
        beta = weights / np.maximum(smoothing, _lengths(sites, places, before))
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
