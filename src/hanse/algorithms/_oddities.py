"""What a site finds odd in its own numbers, held against those of all sites: other units, other codes of two values,
codes for missing values.

The site looks for itself and names columns, nothing else: how far off they are does not leave it. It says nothing of
columns with fewer values than its owner's minimum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hanse.messages import Array

CODES = (-9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0)  # often written where nothing was measured
APART = 2.0  # own standard deviations between two means of which one is twice the other, ...
FROM_ZERO = 3.0  # ... and the larger lies so many from zero
FAR = 8.0  # own standard deviations between two means, whatever their ratio
FEWEST = 10  # values, or their spread is not known well enough


def unlike(names: Sequence[str], values: Array, count: Array, mean: Array, least: int) -> list[str]:
    """The columns whose values lie as far from those of the other sites as another unit would put them.

    Args:
        names: of the columns.
        values: (n, c) of this site, NaN where missing.
        count, mean: (c,) over all sites, this one among them.
        least: fewest values of which something is said, here and at the other sites together.

    >>> here = np.linspace(165, 182, 20)[:, None]
    >>> unlike(["height"], here, np.array([40.0]), (here.mean(0) + 1.74) / 2, 5)
    ['height']
    """
    found = []
    for name, own, there in _beside(names, values, count, mean, least):
        here = float(own.mean())
        spread, gap = float(own.std()), abs(here - there)
        small, large = sorted((abs(here), abs(there)))
        doubled = large > 2 * small and large > FROM_ZERO * spread
        if gap > 1e-9 * large and gap > (APART if doubled else FAR) * spread * (1 + 2 / len(own) ** 0.5):
            found.append(name)
    return found


def recoded(names: Sequence[str], values: Array, count: Array, mean: Array, least: int) -> list[str]:
    """The columns of two values here, such as 1 and 2, beyond both of which their mean at the other sites lies, as it
    does of 0 and 1. Arguments as of :func:`unlike`.

    >>> recoded(["sex"], np.array([1.0, 2.0] * 10)[:, None], np.array([40.0]), np.array([1.0]), 5)
    ['sex']
    """
    found = []
    for name, own, there in _beside(names, values, count, mean, least):
        low, high = float(own.min()), float(own.max())
        if low == high or not np.isin(own, (low, high)).all():
            continue
        near = 1e-6 * (high - low)
        if not low - near <= there <= high + near:
            found.append(name)
    return found


def coded(names: Sequence[str], values: Array, least: int) -> list[str]:
    """The columns that hold a code for missing values: one of :data:`CODES` that stands in several rows, half the
    range of all other values away from them.

    >>> coded(["age"], np.array([[61.0], [58.0], [70.0], [-9.0], [-9.0], [-9.0]]), 3)
    ['age']
    """
    found = []
    for name, column in zip(names, values.T, strict=True):
        own = column[np.isfinite(column)]
        ends = (float(own.min()), float(own.max())) if len(own) else ()
        for code in CODES:
            if code not in ends:  # so far from all others is only what lies at an end
                continue
            many = int(np.count_nonzero(own == code))
            if many < max(3, least) or len(own) - many < max(3, least):
                continue
            rest = own[own != code]
            low, high = float(rest.min()), float(rest.max())
            if code < low - (high - low) / 2 or code > high + (high - low) / 2:
                found.append(name)
                break
    return found


def _beside(
    names: Sequence[str], values: Array, count: Array, mean: Array, least: int
) -> Iterator[tuple[str, Array, float]]:
    """Of the columns of which something is said: the values that are here, and the mean at the other sites."""
    for name, column, total, middle in zip(names, values.T, count, mean, strict=True):
        own = column[np.isfinite(column)]
        others = total - len(own)
        if min(len(own), others) >= max(FEWEST, least):
            yield name, own, float((total * middle - own.sum()) / others)
