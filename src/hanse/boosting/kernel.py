"""The loops over rows that boosting spends its time in, compiled to machine code (:mod:`hanse.boosting.compiled`).

They compare, copy and add whole numbers, add float32 numbers row by row, and multiply by powers of two, so their
results have the same bits on every machine, with any number of threads.

``bins`` is (n, f), one byte a value, or two where a column has more than 256 bins; ``pairs`` (n, 2) int32 are the
gradient and the Hessian of each row, in units of their scales.
"""

from __future__ import annotations

import numpy as np

from hanse.boosting._vectors import add_pair, look_ahead
from hanse.boosting.compiled import compiled
from hanse.messages import Array

_AHEAD = 24  # rows: by then it is there, and not gone again


@compiled
def put_in_bins(X: Array, edges: Array, starts: Array, bins: Array, low: int, high: int) -> None:
    """The bin of each value of the rows from ``low`` to before ``high``: how many edges of its column are not above it;
    of a missing value (NaN) the column's last bin.

    Args:
        X: (n, k) some columns; values are compared as float32.
        edges: float32, ascending in each column.
        starts: (k + 1,) int64, where the edges of each column begin. A column of e edges has e + 2 bins.
        bins: (n, k), written.
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
def count_in_cells(raw: Array, start: Array, first: Array, width: int, bits: int, found: Array) -> None:
    """Counts the values whose keys lie in each part of some cells (:mod:`hanse.boosting.edges`); NaN has no key.

    Args:
        raw: (n,) uint32, the bits of float32 values; -0 counts as 0.
        start: (c,) int64, the first key of each cell, ascending.
        first: (4097,) int64, how many cells start below each multiple of 2^20.
        width, bits: a cell has 2^``width`` keys in 2^``bits`` parts.
        found: (c 2^bits,) int64, added to.
    """
    shift = width - bits
    for i in range(len(raw)):
        bits_of = np.int64(raw[i])
        if bits_of & 0x7FFFFFFF > 0x7F800000:
            continue
        key = 0xFFFFFFFF - bits_of if bits_of > 0x80000000 else bits_of | 0x80000000
        below, above = first[key >> 20], first[(key >> 20) + 1]
        while below < above:
            middle = (below + above) >> 1
            if start[middle] <= key:
                below = middle + 1
            else:
                above = middle
        if below > 0 and (key - start[below - 1]) >> width == 0:
            found[((below - 1) << bits) + ((key - start[below - 1]) >> shift)] += 1


@compiled
def round_pairs(gradients: Array, hessians: Array, factors: Array, rows: Array, pairs: Array) -> None:
    """Writes the pairs of some rows: their gradients and Hessians as whole numbers of their units
    (:mod:`hanse.boosting.scales`), to the nearest, of two the even one.

    Args:
        gradients, hessians: (n, outputs).
        factors: (outputs, 2) float64, powers of two: how many units make 1.
        rows: (n,) whose they are.
        pairs: (outputs, all rows, 2) int32, written.
    """
    for output in range(len(factors)):
        for i in range(len(rows)):
            pairs[output, rows[i], 0] = np.int32(np.rint(np.float64(gradients[i, output]) * factors[output, 0]))
            pairs[output, rows[i], 1] = np.int32(np.rint(np.float64(hessians[i, output]) * factors[output, 1]))


@compiled
def add_up(bins: Array, pairs: Array, order: Array, places: Array, starts: Array, sums: Array) -> None:
    """Adds the pair of each row of some nodes to the bins that the row is in.

    Rows of a leaf lie apart, and where processes share a processor none of them is in its first caches: a core that
    waits for each row takes two or three times as long. So each is asked for some rows ahead. Two rows go through the
    columns side by side: what one waits for, the other has the time for.

    Args:
        pairs: (outputs, n, 2).
        order: int32, rows.
        places: (nodes, 3) int64, of each the output, and from where to where its rows stand in ``order``.
        starts: (f + 1,) uint64, where the bins of each column begin in the sums of a node.
        sums: (nodes, bins of all columns, 2) int64, added to; or (nodes, bins of all columns), in which both are one
            number (:mod:`hanse.boosting.packed`): half the memory and two thirds of the time.
    """
    columns, first = np.uintp(bins.shape[1]), np.uintp(0)
    line = np.uintp(64 // bins.itemsize)
    for node in range(len(places)):
        of, own, into = pairs[places[node, 0]], order[places[node, 1] : places[node, 2]], sums[node]
        size = len(own)
        for i in range(0, size - 1, 2):
            if i + _AHEAD + 1 < size:
                for j in range(i + _AHEAD, i + _AHEAD + 2):
                    soon = np.uintp(own[j])
                    look_ahead(of, soon, first)
                    for column in range(first, columns, line):
                        look_ahead(bins, soon, column)
                    look_ahead(bins, soon, columns - np.uintp(1))
            row, other = np.uintp(own[i]), np.uintp(own[i + 1])
            gradient, hessian = np.int64(of[row, 0]), np.int64(of[row, 1])
            its_gradient, its_hessian = np.int64(of[other, 0]), np.int64(of[other, 1])
            for column in range(bins.shape[1]):
                start = starts[column]
                add_pair(into, start + np.uintp(bins[row, column]), gradient, hessian)
                add_pair(into, start + np.uintp(bins[other, column]), its_gradient, its_hessian)
        if size & 1:
            row = np.uintp(own[size - 1])
            gradient, hessian = np.int64(of[row, 0]), np.int64(of[row, 1])
            for column in range(bins.shape[1]):
                add_pair(into, starts[column] + np.uintp(bins[row, column]), gradient, hessian)


@compiled
def part(
    bins: Array, splits: Array, right: Array, edges: Array, categories: Array, order: Array, spare: Array, places: Array
) -> bool:
    """Brings the rows of some nodes that go left before the others, each in their order, and notes where those of the
    children stand; of the nodes themselves none stand anywhere then. A child may be parted after its parent.

    ``bins`` may be those of :func:`add_up` or the same one column after the other, which is three times as quick. Each
    row is written to both sides, and one of them counts: where it goes cannot be foreseen, and a processor that
    foresees wrongly loses five times as long.

    Args:
        splits: (splits, 5) int64: node, left child (the right one is the next), column, the last bin that goes left,
            and 1 where missing values do.
        right: (splits, bytes) uint8, bits of the categories that go right, the first one the highest.
        edges, categories: (f,) int64 of each column: how many edges it has, and how many categories, or 0.
        order: int32, rows, written.
        spare: as long as ``order``, overwritten where these stand.
        places: (all nodes, 3) int64, as those of :func:`add_up`; the output is -1 where no rows stand. Written.

    Returns:
        whether all was done. Where a split is of no node that has rows, or there is no such child, column or category,
        it and what follows is not.
    """
    goes = np.empty(np.max(edges) + 2 if len(edges) else 0, np.uint8)
    for i in range(len(splits)):
        node, left, feature, bin = splits[i, 0], splits[i, 1], splits[i, 2], splits[i, 3]
        if not (0 <= node < len(places) and 0 <= left < len(places) - 1 and 0 <= feature < len(edges)):
            return False
        if places[node, 0] < 0 or categories[feature] > 8 * right.shape[1]:
            return False
        missing = edges[feature] + 1
        for j in range(missing):
            goes[j] = 1 if j <= bin else 0
        for j in range(min(categories[feature], missing)):
            goes[j] = 1 - ((right[i, j >> 3] >> (7 - (j & 7))) & 1)
        goes[missing] = 1 if splits[i, 4] else 0
        output, low, high = places[node, 0], places[node, 1], places[node, 2]
        own, other, column = order[low:high], spare[low:high], np.uintp(feature)
        here, there = np.uintp(0), np.uintp(0)
        for j in range(len(own)):
            look_ahead(bins, np.uintp(own[min(j + _AHEAD, len(own) - 1)]), column)
            row = own[j]
            this = np.uintp(goes[bins[np.uintp(row), column]])
            own[here] = row
            other[there] = row
            here += this
            there += np.uintp(1) - this
        own[here:] = other[:there]
        middle = low + np.int64(here)
        places[node, 0], places[node, 1], places[node, 2] = -1, 0, 0
        places[left, 0], places[left, 1], places[left, 2] = output, low, middle
        places[left + 1, 0], places[left + 1, 1], places[left + 1, 2] = output, middle, high
    return True


@compiled
def add_to(margins: Array, order: Array, places: Array, values: Array) -> None:
    """Adds what some leaves add, (leaves,) float32, to the margins (n, outputs) of their rows.

    Args:
        order, places: as those of :func:`part`.
    """
    for leaf in range(len(places)):
        for i in range(places[leaf, 1], places[leaf, 2]):
            margins[order[i], places[leaf, 0]] += values[leaf]


@compiled
def walk(
    bins: Array,
    rows: Array,
    left: Array,
    right: Array,
    feature: Array,
    last: Array,
    missing: Array,
    default_left: Array,
    value: Array,
    segments: Array,
    categories: Array,
    margins: Array,
    output: int,
) -> None:
    """Adds what one tree (:class:`hanse.boosting.trees.Trees`) adds to the margins of ``rows``.

    Args:
        last: (nodes,) int64, the last bin that goes left at a split on a threshold.
        missing: (nodes,) int64, the bin of missing values of the column that is split on.
        segments: (nodes + 1,) int64, where the categories that each node lists begin in ``categories``.
        margins: (n, outputs) float32, added to.
    """
    for i in range(len(rows)):
        row = rows[i]
        node = 0
        while left[node] >= 0:
            bin = np.int64(bins[row, feature[node]])
            begin, end = segments[node], segments[node + 1]
            if bin == missing[node]:
                goes_left = default_left[node] == 1
            elif begin < end:
                goes_left = True
                for j in range(begin, end):
                    if categories[j] == bin:
                        goes_left = False
            else:
                goes_left = bin <= last[node]
            node = left[node] if goes_left else right[node]
        margins[row, output] += value[node]


@compiled
def route(
    X: Array,
    left: Array,
    feature: Array,
    value: Array,
    default_left: Array,
    segments: Array,
    categories: Array,
    goes_left: Array,
) -> None:
    """Which way each row of ``X`` goes at each split of one tree, whether it comes there or not.

    Args:
        X: (n, f); values are compared as float32.
        segments: as of :func:`walk`.
        goes_left: (n, nodes) uint8, written at splits.
    """
    for row in range(len(X)):
        for node in range(len(left)):
            if left[node] < 0:
                continue
            x = np.float32(X[row, feature[node]])
            first, last = segments[node], segments[node + 1]
            if np.isnan(x):
                goes = default_left[node] == 1
            elif first < last:
                goes = True
                for j in range(first, last):
                    if categories[j] == int(x):
                        goes = False
            else:
                goes = x < value[node]
            goes_left[row, node] = 1 if goes else 0


@compiled
def attribute(
    goes_left: Array,
    steps: Array,
    slots: Array,
    features: Array,
    shares: Array,
    value: float,
    table: Array,
    known: Array,
    found: Array,
) -> None:
    """Adds what one leaf adds to the SHAP values of each row (:mod:`hanse.boosting.shap`).

    Args:
        goes_left: (n, nodes) uint8, of :func:`route`.
        steps: (s, 2) int32, the nodes on the way to the leaf, and 1 where it goes left there.
        slots: (s,) int32, which of the (d,) ``features`` of the way each step asks.
        shares: (d,) float64, the share of the cover of all steps of a feature.
        value: of the leaf.
        table: (2^d, d) float64, for rows that follow the features of a set; ``known`` (2^d,) uint8, which are there
            already. Both are written. Of no rows (0, d): each row is computed.
        found: (n, f + 1) float64, added to.
    """
    d = len(features)
    sets, own = np.zeros(d), np.zeros(d)
    whole = value
    for i in range(d):
        whole *= shares[i]
    for row in range(len(goes_left)):
        followed = (1 << d) - 1
        for s in range(len(steps)):
            if goes_left[row, steps[s, 0]] != steps[s, 1]:
                followed &= ~(1 << slots[s])
        found[row, found.shape[1] - 1] += whole
        if len(table) == 0 or known[followed] == 0:
            for i in range(d):
                sets[:] = 0.0
                sets[0] = 1.0
                size = 0
                for j in range(d):
                    if j != i:
                        one = 1.0 if (followed >> j) & 1 else 0.0
                        size += 1
                        for k in range(size, 0, -1):
                            sets[k] = sets[k] * shares[j] + sets[k - 1] * one
                        sets[0] *= shares[j]
                weight, total = 1.0 / d, 0.0
                for k in range(d):
                    total += sets[k] * weight
                    weight *= (k + 1.0) / (d - 1.0 - k) if k < d - 1 else 0.0
                own[i] = (((followed >> i) & 1) - shares[i]) * total * value
            if len(table) > 0:
                table[followed] = own
                known[followed] = 1
        else:
            own[:] = table[followed]
        for i in range(d):
            found[row, features[i]] += own[i]
