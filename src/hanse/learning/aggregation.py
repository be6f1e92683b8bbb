"""The aggregation of averaging: how the changes of the sites become one. A value of pure functions.

What does not add needs every single contribution (EACH), and gives up secure sums for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hanse.kinds import Answer, Combine, Gathered
from hanse.messages import Array, Json, Record, block
from hanse.training import Arrays

_BLOCK = 1 << 14  # elements: those of fifty sites are 6 MB
Settings = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Aggregation:
    """How contributions come together.

    Args:
        combine: what is needed of them.
        together: one of each array from those of all sites that trained, at least one. The arrays are new ones.
        averages: whether a site counts by its weight.
    """

    combine: Combine
    together: Callable[[Gathered, Settings], dict[str, Array]]
    averages: bool = True


def _mean(gathered: Gathered, settings: Settings) -> dict[str, Array]:
    return gathered.mean()


weighted_mean = Aggregation(Combine.SUM, _mean)
"""Σ_k n_k Δ_k / Σ_k n_k over sites k of n_k training rows."""


def coordinatewise(statistic: Callable[[Array, Settings], Array]) -> Aggregation:
    """For each coordinate a ``statistic`` over the sites that have training rows, each counting once: from (sites, m)
    numbers in float64 to (m,)."""

    def together(gathered: Gathered, settings: Settings) -> dict[str, Array]:
        found = trained(gathered)
        return blockwise([record.arrays for _, record in found], lambda stack: statistic(stack, settings))

    return Aggregation(Combine.EACH, together, averages=False)


def trained(gathered: Gathered) -> list[tuple[Answer, Record]]:
    """The single contributions of the sites that have training rows."""
    return [(answer, record) for answer, record in gathered.each() if answer.weight > 0]


def blockwise(sites: list[Arrays], joined: Callable[[Array], Array]) -> dict[str, Array]:
    """``joined`` of (sites, m) float64 numbers, over blocks of each array; in the dtype that was sent, or float64 for
    whole numbers."""
    out: dict[str, Array] = {}
    for name in sites[0]:
        first = sites[0][name]
        total = np.empty(first.size, first.dtype if first.dtype.kind == "f" else np.float64)
        for low in range(0, first.size, _BLOCK):
            high = min(low + _BLOCK, first.size)
            total[low:high] = joined(np.stack([block(arrays, name, low, high).astype(np.float64) for arrays in sites]))
        out[name] = total.reshape(first.shape)
    return out
