"""The best split of a node by numbers, as a compiled loop (:mod:`hanse.boosting.compiled`).

It does in one look at the sums what numpy does in twenty (:mod:`hanse.boosting.splits`), with the same operations on
each number in the same order, so all bits are the same. Sums are whole numbers in 64 bits, as numpy's are: one beyond
them goes round. Those of a node and of its sibling are made, held against each other and searched while they lie in a
processor's caches, and written to memory only where those of their children will follow from them.
"""

from __future__ import annotations

import numpy as np

from hanse.boosting.compiled import compiled, part
from hanse.messages import Array


@compiled
def best_by_numbers(
    histograms: Array,
    first: int,
    scales: Array,
    starts: Array,
    numbers: Array,
    allowed: Array,
    penalty: Array,
    found: Array,
    gains: Array,
) -> None:
    """The best split of each node on a column of numbers (:func:`hanse.boosting.splits.best`), where weights have no
    bounds. The bins of column c stand from ``starts[c]`` to before ``starts[c + 1]``; the last has the missing values.

    Args:
        histograms: (k, bins, 2), of the nodes from ``first`` on, of m.
        scales: (m, 2) float64.
        starts: (f + 1,) int64.
        numbers: (f,) uint8, 1 where a column holds numbers and not categories.
        allowed: (m, f) bool, the columns that a node may be split on; (0, f): all.
        penalty: (5,) float64, λ, α and the least H of a leaf; a split gains more than the next, and at least the last.
        found: (5, m) int64, written: the column, the bin, 1 where missing values go left, and the sums of the left
            part; as it was where there is no split.
        gains: (m,) float64, written likewise.
    """
    for i in range(len(histograms)):
        _search(histograms[i], first + i, scales, starts, numbers, allowed, penalty, found, gains)


@compiled
def best_of_pairs(
    sums: Array,
    own: Array,
    apart: Array,
    held: Array,
    above: Array,
    places: Array,
    kept: Array,
    at: Array,
    scales: Array,
    starts: Array,
    numbers: Array,
    allowed: Array,
    penalty: Array,
    totals: Array,
    found: Array,
    gains: Array,
) -> int:
    """The same of nodes whose sums were asked for and of their siblings, which have what is left of the node above.

    Args:
        sums, own, apart: of b nodes (:class:`hanse.boosting.packed.Sums`).
        held: (h, bins, 2) of the nodes above; ``above``: (b,) which it is; (0,): they are roots, and have no siblings.
        places: (b,) int64 of these nodes among all m, each beside its sibling.
        kept: (k, bins, 2), written: their histograms; ``at``: (m,) int64 where each of m is in it, -1: nowhere.
        totals: (b, 2) int64, written: of all rows of a node.
        scales, starts, numbers, allowed, penalty, found, gains: as of :func:`best_by_numbers`.

    Returns 0; 1 where the columns of a node have not the same sums, and 2 where a Hessian is more than that above.
    """
    size = starts[-1]
    both = np.empty((2, size, 2), np.int64)
    for i in range(len(sums)):
        place = places[i]
        one = kept[at[place]] if at[place] >= 0 else both[0]
        if sums.shape[1] == 2 * size:
            for bin in range(size):
                one[bin, 0], one[bin, 1] = sums[i, 2 * bin], sums[i, 2 * bin + 1]
        else:
            for bin in range(size):
                one[bin, 0], one[bin, 1] = sums[i, bin] >> 32, sums[i, bin] & 0xFFFFFFFF
        for k in range(own.shape[1]):
            one[apart[k], 0], one[apart[k], 1] = own[i, k, 0], own[i, k, 1]
        for column in range(len(starts) - 1):
            total_g, total_h = np.int64(0), np.int64(0)
            for bin in range(starts[column], starts[column + 1]):
                total_g += one[bin, 0]
                total_h += one[bin, 1]
            if column == 0:
                totals[i, 0], totals[i, 1] = total_g, total_h
            elif total_g != totals[i, 0] or total_h != totals[i, 1]:
                return 1
        _search(one, place, scales, starts, numbers, allowed, penalty, found, gains)
        if len(above) == 0:
            continue
        place ^= 1
        other, over, least = kept[at[place]] if at[place] >= 0 else both[1], held[above[i]], np.int64(0)
        for bin in range(size):
            other[bin, 0] = over[bin, 0] - one[bin, 0]
            other[bin, 1] = over[bin, 1] - one[bin, 1]
            least = min(least, other[bin, 1])
        if least < 0:
            return 2
        _search(other, place, scales, starts, numbers, allowed, penalty, found, gains)
    return 0


@part
def _search(
    own: Array,
    node: int,
    scales: Array,
    starts: Array,
    numbers: Array,
    allowed: Array,
    penalty: Array,
    found: Array,
    gains: Array,
) -> None:
    """Of one ``node``, whose histogram is ``own`` (bins, 2)."""
    reg_lambda, alpha, least = penalty[0], penalty[1], penalty[2]
    scale_g, scale_h = scales[node, 0], scales[node, 1]
    total_g, total_h = np.int64(0), np.int64(0)
    for place in range(starts[1]):
        total_g += own[place, 0]
        total_h += own[place, 1]
    g, h = np.float64(total_g) * scale_g, np.float64(total_h) * scale_h
    soft = max(abs(g) - alpha, 0.0) if alpha != 0.0 else g
    parent = soft * soft / (h + reg_lambda) if h + reg_lambda > 0.0 else 0.0
    most, running_g, running_h = penalty[3], np.int64(0), np.int64(0)
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
                if worth > most and worth >= penalty[4]:
                    most = gains[node] = worth
                    found[0, node], found[1, node], found[2, node] = column, place - first, side
                    found[3, node], found[4, node] = left_g, left_h
        running_g += absent_g
        running_h += absent_h
