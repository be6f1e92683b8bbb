"""On which rows pairs of columns stand, and which pairs give few rows away.

Column i is summed over R_i, the rows that have it, and in its pair with j over R_ij, those that have
both. The sums differ by those of R_i without R_ij: where these are few people, the difference tells
their values, so neither side of the pair is told. The same holds for two pairs (i, j) and (i, k) of one
question whose sets of rows differ by few, and for what a total exceeds the groups that are told by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hanse.messages import Array

MOST = 32  # columns whose sets of rows are compared three at a time: with more it would cost p^3 numbers


def pairs(there: Array) -> Array:
    """(p, p) rows in which both columns are there."""
    if there.all():
        return np.full((there.shape[1],) * 2, len(there), np.int64)
    m = there.astype(np.float64)
    return np.rint(m.T @ m).astype(np.int64)


def triples(there: Array) -> Array:
    """(p, p, p) rows in which three columns are there; (0, 0, 0) for more than ``MOST`` columns. Rows that
    have the same columns are counted once, together."""
    rows, p = there.shape
    if p > MOST:
        return np.zeros((0, 0, 0), np.int64)
    if there.all():
        return np.full((p,) * 3, rows, np.int64)
    bits = np.zeros((rows, 4), np.uint8)
    packed = np.packbits(there, axis=1)
    bits[:, : packed.shape[1]] = packed
    _, first, counts = np.unique(bits.view(np.uint32).reshape(-1), return_index=True, return_counts=True)
    m = there[first].astype(np.float64)
    return np.stack([np.rint(m.T @ (m * (m[:, i] * counts)[:, None])).astype(np.int64) for i in range(p)])


def few(n: Array, minimum: int) -> Array:
    return (n > 0) & (n < minimum)


def without(n: Array) -> Array:
    """(..., p, p) rows that have column i, and not j, from those of all pairs."""
    return np.asarray(np.diagonal(n, axis1=-2, axis2=-1)[..., None] - n)


def hidden(n: Array, three: Array, minimum: int) -> Array:
    """(p, p) bool, symmetric: pairs to keep back. Of two pairs that differ by few, both are: which one is
    told must not depend on the order of the columns.

    >>> n = np.array([[90, 87, 40], [87, 87, 37], [40, 37, 40]])  # three rows have the first, and not the second
    >>> hidden(n, np.zeros((0, 0, 0)), 10).tolist()
    [[False, True, False], [True, False, True], [False, True, False]]
    """
    back = few(n, minimum) | few(without(n), minimum)
    back |= back.T
    if len(three):
        told = ~back
        for i in range(len(n)):
            apart = n[i][:, None] - three[i]  # rows that have i and j, and not k
            both = told[i][:, None] & told[i][None, :]
            close = (few(apart + apart.T, minimum) & both).any(1)
            back[i] |= close
            back[:, i] |= close
    return back


def over_groups(n: Array, back: Array, shape: Sequence[int], minimum: int) -> Array:
    """(g, p, p) bool: ``back``, and so many more groups of each pair that what a total exceeds those told
    by has the minimum of rows, and of rows that have one column and not the other, or none.

    Args:
        n: (g, p, p) rows of each pair in each group, those without a label included.
        shape: of the groups, whose lines have totals.
    """
    out, p = back.copy(), n.shape[-1]
    lone = without(n)
    cells = np.arange(len(n)).reshape(shape)
    for i in range(p):
        for j in range(i, p):
            counts = np.stack([n[:, i, j], lone[:, i, j], lone[:, j, i]])
            flags = out[:, i, j] | few(counts, minimum).any(0)
            before = -1
            while int(flags.sum()) != before:
                before = int(flags.sum())
                for line in _lines(cells):
                    _complete(counts, flags, line, minimum)
            out[:, i, j] = out[:, j, i] = flags
    return out


def _lines(cells: Array) -> Iterator[Array]:
    for axis in range(cells.ndim):
        yield from np.moveaxis(cells, axis, -1).reshape(-1, cells.shape[axis])


def _complete(counts: Array, flags: Array, line: Array, minimum: int) -> None:
    if not flags[line].any():
        return
    first = int(np.argmax(flags[line]))
    for step in range(len(line)):
        left = counts[:, line[flags[line]]]
        if (
            left.shape[1] > 1
            and left[0].max() >= minimum
            and left[0].sum() >= 2 * minimum
            and not few(left.sum(1), minimum).any()
        ):
            return
        flags[line[(first + step) % len(line)]] = True
