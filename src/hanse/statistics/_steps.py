"""Columns of numbers that are all multiples of one power of ten: whole years, tenths of a degree, cents.

Rows that are told together up to a cell stand on the multiples behind the cell of the run before, up to its own: spread
evenly in between, and each moved up to the next multiple, they stand where they do on average. Left between two
multiples, each would stand half a step too low, and a quantile of whole years would be none.
"""

from __future__ import annotations

import numpy as np

from hanse.messages import Array

CHANCE = 1e-6  # that so many cells hold a multiple each, if the column has no step
FINEST = 6  # decimals


def decimals(edges: Array, last: Array, center: float) -> int | None:
    """The fewest decimals that all numbers at which runs end have, as far as their cells tell; None: they have no step.

    Args:
        edges: (k + 1,) of the cells, about ``center``.
        last: (k,) the rows of each run at its last cell. The outermost cells say nothing.

    >>> edges = np.arange(0.0, 6.01, 0.02) - 0.01
    >>> decimals(edges, np.isin(np.arange(300), (50, 100, 150, 200, 250)), 0.0), decimals(edges, np.ones(300), 0.0)
    (0, None)
    """
    ends = np.flatnonzero(last)
    ends = ends[(ends > 0) & (ends < len(last) - 1)]
    low, high = edges[ends] + center, edges[ends + 1] + center
    for found in range(FINEST + 1):
        scale = 10.0**found
        if np.prod(np.minimum((high - low) * scale, 1.0)) > CHANCE:
            return None
        if (_multiple(low, scale) <= high * scale + _slack(high, scale)).all():
            return found
    return None


def moved(value: float, low: float, high: float, found: int) -> float:
    """The multiple at which ``value`` stands: that in its cell, from ``low`` to ``high``, or else the next one.

    >>> moved(22.3, 22.29, 22.31, 0), moved(22.005, 21.99, 22.01, 0)
    (23.0, 22.0)
    """
    scale = 10.0**found
    inside = float(_multiple(low, scale))
    alone = inside <= high * scale + _slack(high, scale) < inside + 1
    return (inside if alone else float(_multiple(value, scale))) / scale + 0.0


def _multiple(value: Array | float, scale: float) -> Array:
    """The first one from a value on, in steps."""
    return np.asarray(np.ceil(np.asarray(value) * scale - _slack(value, scale)))


def _slack(value: Array | float, scale: float) -> Array:
    return 4 * np.asarray(np.spacing(np.abs(value))) * scale
