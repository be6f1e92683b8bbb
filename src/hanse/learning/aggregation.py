"""The aggregation of averaging: how the changes of the sites become one. A value of pure functions.

What does not add needs every single contribution (EACH), and gives up secure sums for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hanse.kinds import Answer, Combine, Gathered
from hanse.messages import Array, Json, Record, Together
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
        needed: how many answers are enough; the others count in a later step, with their age
            (:attr:`hanse.kinds.Gathered.step` less :attr:`hanse.kinds.Answer.asked`). None: all are waited for.
    """

    combine: Combine
    together: Callable[[Gathered, Settings], dict[str, Array]]
    averages: bool = True
    needed: Callable[[Settings], int] | None = None


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


def blockwise(sites: Sequence[Arrays], joined: Callable[[Array], Array]) -> dict[str, Array]:
    """``joined`` of (sites, m) float64 numbers, over blocks of each array; in the dtype that was sent, or float64 for
    whole numbers."""
    out, together = dict[str, Array](), Together(sites)
    for name, first in sites[0].items():
        total = np.empty(first.size, first.dtype if first.dtype.kind == "f" else np.float64)
        for low, high in _cuts(first.size):
            total[low:high] = joined(together.block(name, low, high))
        out[name] = total.reshape(first.shape)
    return out


def sizes(sites: Sequence[Arrays]) -> dict[str, int]:
    """How many numbers each array has; read once, where :func:`blocks` are read again and again."""
    return {name: first.size for name, first in sites[0].items()}


def blocks(sites: Sequence[Arrays], sizes: Mapping[str, int]) -> Iterator[Array]:
    """All numbers of the sites as (sites, m) float64 blocks."""
    together = Together(sites)
    for name, size in sizes.items():
        for low, high in _cuts(size):
            yield together.block(name, low, high)


def _cuts(size: int) -> Iterator[tuple[int, int]]:
    for low in range(0, size, _BLOCK):
        yield low, min(low + _BLOCK, size)
