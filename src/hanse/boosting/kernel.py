"""The loops over rows that boosting spends its time in, compiled to machine code (:mod:`hanse.boosting.compiled`).

They compare, copy and add whole numbers, and add float32 numbers row by row, so their results have the same bits on
every machine, with any number of threads.

``bins`` is (n, f), one byte a value, or two where a column has more than 256 bins; ``pairs`` (n, 2) int32 are the
gradient and the Hessian of each row, in units of their scales.
"""

from __future__ import annotations

import numpy as np

from hanse.boosting.compiled import compiled
from hanse.messages import Array


@compiled
def put_in_bins(X: Array, edges: Array, starts: Array, bins: Array, low: int, high: int) -> None:
    """The bin of each value of the rows from ``low`` to before ``high``: how many edges of its column are not above it;
    of a missing value (NaN) the column's last bin.

    Args:
        X: (n, f) float64; values are compared as float32.
        edges: float32, ascending in each column.
        starts: (f + 1,) int64, where the edges of each column begin. A column of e edges has e + 2 bins.
        bins: written.
    """
    for row in range(low, high):
        for column in range(X.shape[1]):
            first, last = starts[column], starts[column + 1]
            value = np.float32(X[row, column])
            if np.isnan(value):
                bins[row, column] = last - first + 1
                continue
            below, above = first, last
            while below < above:
                middle = (below + above) >> 1
                if edges[middle] <= value:
                    below = middle + 1
                else:
                    above = middle
            bins[row, column] = below - first


@compiled
def add_up(bins: Array, pairs: Array, rows: Array, starts: Array, sums: Array) -> int:
    """Adds the pair of each of ``rows`` to the bins that the row is in.

    Rows of a leaf lie apart, and a core that waits for each of them in turn takes three times as long. So the rows of a
    block are looked at once before, which it does for many of them at a time. (The result only keeps that from being
    optimised away.)

    Args:
        rows: int32.
        starts: (f + 1,) uint64, where the bins of each column begin in ``sums``.
        sums: (bins of all columns, 2) int64, added to.
    """
    seen = 0
    for low in range(0, len(rows), 64):
        high = min(low + 64, len(rows))
        for i in range(low, high):
            row = np.uintp(rows[i])
            seen += bins[row, 0] + pairs[row, 0]
        for i in range(low, high):
            row = np.uintp(rows[i])
            gradient, hessian = np.int64(pairs[row, 0]), np.int64(pairs[row, 1])
            for column in range(bins.shape[1]):
                place = starts[column] + np.uintp(bins[row, column])
                sums[place, 0] += gradient
                sums[place, 1] += hessian
    return seen


@compiled
def part(bins: Array, column: int, goes_left: Array, rows: Array, spare: Array) -> int:
    """Brings those of ``rows`` that go left before the others, each in their order; how many they are.

    Args:
        goes_left: (bins of the column,) uint8, 1 where rows of a bin go left.
        rows: int32, written.
        spare: as long as ``rows``, overwritten.
    """
    left, right = 0, 0
    for i in range(len(rows)):
        row = rows[i]
        if goes_left[bins[row, column]]:
            rows[left] = row
            left += 1
        else:
            spare[right] = row
            right += 1
    rows[left:] = spare[:right]
    return left


@compiled
def add_to(margins: Array, output: int, rows: Array, value: np.float32) -> None:
    """Adds what a leaf adds, float32, to the margins (n, outputs) of its rows."""
    for i in range(len(rows)):
        margins[rows[i], output] += value


@compiled
def walk(
    X: Array,
    rows: Array,
    left: Array,
    right: Array,
    feature: Array,
    value: Array,
    default_left: Array,
    segments: Array,
    categories: Array,
    margins: Array,
    output: int,
) -> None:
    """Adds what one tree (:class:`hanse.boosting.trees.Trees`) adds to the margins of ``rows``.

    Args:
        X: (n, f) float64; values are compared as float32.
        segments: (nodes + 1,) int64, where the categories that each node lists begin in ``categories``.
        margins: (n, outputs) float32, added to.
    """
    for i in range(len(rows)):
        row = rows[i]
        node = 0
        while left[node] >= 0:
            x = np.float32(X[row, feature[node]])
            first, last = segments[node], segments[node + 1]
            if np.isnan(x):
                goes_left = default_left[node] == 1
            elif first < last:
                goes_left = True
                for j in range(first, last):
                    if categories[j] == int(x):
                        goes_left = False
            else:
                goes_left = x < value[node]
            node = left[node] if goes_left else right[node]
        margins[row, output] += value[node]
