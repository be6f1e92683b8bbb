"""The best split of a node by numbers, as a compiled loop (:mod:`hanse.boosting.compiled`).

It does in one look at the sums what numpy does in twenty (:mod:`hanse.boosting.splits`), with the same operations on
each number in the same order, so all bits are the same. Sums are whole numbers in 64 bits, as numpy's are: one beyond
them goes round.
"""

from __future__ import annotations

import numpy as np

from hanse.boosting.compiled import compiled
from hanse.messages import Array


@compiled
def best_by_numbers(
    histograms: Array,
    scales: Array,
    starts: Array,
    numbers: Array,
    allowed: Array,
    penalty: Array,
    places: Array,
    found: Array,
    gains: Array,
) -> None:
    """The best split of each node on a column of numbers (:func:`hanse.boosting.splits.best`), where weights have no
    bounds. The bins of column c stand from ``starts[c]`` to before ``starts[c + 1]``; the last has the missing values.

    Args:
        histograms: (m, bins, 2).
        scales: (m, 2) float64.
        starts: (f + 1,) int64.
        numbers: (f,) uint8, 1 where a column holds numbers and not categories.
        allowed: (m, f) bool, the columns that a node may be split on; (0, f): all.
        penalty: (3,) float64, λ, α and the least H of a leaf.
        places: (m, 3) int64, written: the column, the bin, and 1 where missing values go left.
        found: (m, 2) int64, written: sums of the left part.
        gains: (m,) float64, written; -inf where there is no split.
    """
    reg_lambda, alpha, least = penalty[0], penalty[1], penalty[2]
    for node in range(len(histograms)):
        own, scale_g, scale_h = histograms[node], scales[node, 0], scales[node, 1]
        total_g, total_h = np.int64(0), np.int64(0)
        for place in range(starts[1]):
            total_g += own[place, 0]
            total_h += own[place, 1]
        g, h = np.float64(total_g) * scale_g, np.float64(total_h) * scale_h
        soft = max(abs(g) - alpha, 0.0) if alpha != 0.0 else g
        parent = soft * soft / (h + reg_lambda) if h + reg_lambda > 0.0 else 0.0
        most, running_g, running_h = -np.inf, np.int64(0), np.int64(0)
        for column in range(len(starts) - 1):
            first, missing = starts[column], starts[column + 1] - 1
            absent_g, absent_h = own[missing, 0], own[missing, 1]
            lacks = absent_g != 0 or absent_h != 0
            if column > 0:
                running_g -= total_g
                running_h -= total_h
            usable = numbers[column] == 1 and (len(allowed) == 0 or allowed[node, column])
            if not usable:
                for place in range(first, missing + 1):
                    running_g += own[place, 0]
                    running_h += own[place, 1]
                continue
            for place in range(first, missing):
                running_g += own[place, 0]
                running_h += own[place, 1]
                if place == missing - 1 and not lacks:  # all values on one side
                    break
                for side in range(2):  # missing values to the right, then to the left
                    if side == 1 and (not lacks or place == missing - 1):
                        break
                    left_g, left_h = running_g + side * absent_g, running_h + side * absent_h
                    h, other_h = np.float64(left_h) * scale_h, np.float64(total_h - left_h) * scale_h
                    if least > 0.0:
                        if not (h >= least and other_h >= least):
                            continue
                    elif not (h > 0.0 and other_h > 0.0):
                        continue
                    g, other_g = np.float64(left_g) * scale_g, np.float64(total_g - left_g) * scale_g
                    if alpha != 0.0:
                        g, other_g = max(abs(g) - alpha, 0.0), max(abs(other_g) - alpha, 0.0)
                    worth = g * g / (h + reg_lambda) if h + reg_lambda > 0.0 else 0.0
                    worth += other_g * other_g / (other_h + reg_lambda) if other_h + reg_lambda > 0.0 else 0.0
                    worth -= parent
                    if worth > most:
                        most = worth
                        places[node, 0], places[node, 1], places[node, 2] = column, place - first, side
                        found[node, 0], found[node, 1] = left_g, left_h
            running_g += absent_g
            running_h += absent_h
        gains[node] = most
