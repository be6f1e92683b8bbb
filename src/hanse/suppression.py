"""What keeps small cells from being seen, also by subtraction.

Everything here is done at the node, before anything leaves it, on its own counts: what a node sends
is safe by itself, whoever else takes part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hanse.messages import Array

MOST_FOLLOWED = 100
MOST_TRIED = 1000  # sets of few rows of which each might be a sum of answers


def hidden(counts: Array, minimum: int, back: Array | None = None) -> Array:
    """(k,) bool: cells to keep back so that their total (which is known) gives none of them away. ``back``: cells
    that are kept back however many rows they hold, and hide no others.

    Cells of 1 to ``minimum`` - 1 rows are kept back, and then so many more that among the hidden is
    one of at least ``minimum`` rows, and together they have twice that, if there are so many. Which
    ones go along must not depend on their size, or that would bound what is hidden: it is the next
    cell in order, around the end. Empty cells are left alone unless their turn comes.

    >>> hidden(np.array([80, 3, 40, 0]), 10).tolist()
    [False, True, True, False]
    """
    counts = np.asarray(counts)
    alone = np.zeros(len(counts), bool) if back is None else np.asarray(back)
    out = alone | ((counts > 0) & (counts < minimum))
    if out.any():
        first = int(np.argmax(out))
        for step in range(len(counts)):
            if counts[out & ~alone].max(initial=0) >= minimum and counts[out].sum() >= 2 * minimum:
                break
            out[(first + step) % len(counts)] = True
    return out


def hidden_table(counts: Array, minimum: int, back: Array | None = None) -> Array:
    """(r, c) bool: the same for a table whose row and column totals are known: in each row and each
    column the hidden cells, if any, are hidden by :func:`hidden`'s rule. Cells of an empty row or column
    hide nothing: its total tells that they are 0. ``back``: cells that are kept back for another reason.

    >>> hidden_table(np.array([[50, 4, 0], [50, 56, 0]]), 10).tolist()
    [[True, True, False], [True, True, False]]
    """
    counts = np.asarray(counts)
    full = np.ix_(counts.sum(1) > 0, counts.sum(0) > 0)
    out = np.zeros(counts.shape, bool) if back is None else back.copy()
    small = (counts > 0) & ((counts < minimum) | out)
    out[full] |= _hidden_table(counts[full], small[full], minimum)
    return out


def hidden_groups(counts: Array, back: Array, shape: Sequence[int], minimum: int) -> Array:
    """(g,) bool: groups to keep back as a whole, of each of which several counts are told: those with a small
    one, ``back``, and so many more that in each line of groups the hidden ones together have none or the minimum of
    every count.

    Args:
        counts: (g, p), the groups without a label included.
        shape: of the groups, whose lines have totals.

    >>> hidden_groups(np.array([[20, 80], [3, 97], [40, 60], [0, 0]]), np.zeros(4, bool), [4], 10).tolist()
    [False, True, True, False]
    """
    out = np.asarray(back | ((counts > 0) & (counts < minimum)).any(1))
    cells, before = np.arange(len(counts)).reshape(shape), -1
    while int(out.sum()) != before:
        before = int(out.sum())
        for axis in range(cells.ndim):
            for line in np.moveaxis(cells, axis, -1).reshape(-1, cells.shape[axis]):
                _complete_line(counts[line], out, line, minimum)
    return out


def _complete_line(counts: Array, out: Array, line: Array, minimum: int) -> None:
    if not out[line].any():
        return
    first = int(np.argmax(out[line]))
    for step in range(len(line)):
        left = counts[out[line]].sum(0)
        if np.all((left == 0) | (left >= minimum)) and left.sum() >= 2 * minimum:
            return
        out[line[(first + step) % len(line)]] = True


def _hidden_table(counts: Array, out: Array, minimum: int) -> Array:
    """Rows and columns are completed from the same cells, so that a table and its transpose, which are asked one after
    the other, keep back the same."""
    while True:
        by_row, by_column = out.copy(), out.copy()
        for view, mask in ((counts, by_row), (counts.T, by_column.T)):
            for line, flags in zip(view, mask, strict=True):
                _complete(line, flags, minimum)
        found = by_row | by_column
        if np.array_equal(found, out):
            alone = _determined(counts, found, minimum)
            found[alone.any(1)] = True
            found[:, alone.any(0)] = True
        if np.array_equal(found, out):
            return out
        out = found


def _in_squares(forth: Array, back: Array) -> Array:
    """(r, c) bool: cells (i, j) for which (i, l) and (k, j) are in ``forth`` and (k, l) in ``back``."""
    f, b = forth.astype(np.float64), back.astype(np.float64)
    ways = f @ b.T  # from row i over some column to row k
    np.fill_diagonal(ways, 0.0)
    return np.asarray(ways @ f - f * ((b * f).sum(0) - b * f) > 0.5)  # but not over column j itself


def _determined(counts: Array, out: Array, minimum: int) -> Array:
    """(r, c) bool: small cells that follow from the others, since no rows can move through them: a cell can change
    where it lies on a cycle of hidden cells in which every other one has rows to give. Most lie on one of four; of
    many that do not, no more are followed than is quickly done, and the rest count as such."""
    r, c = counts.shape
    gives = out & (counts > 0)
    alone = gives & (counts < minimum)
    if not alone.any():
        return alone
    alone &= ~(_in_squares(out, gives) | _in_squares(gives, out))
    for i, j in np.argwhere(alone)[:MOST_FOLLOWED]:
        takes, lends = out.copy(), gives.copy()
        takes[i, j] = lends[i, j] = False
        rows, columns = np.zeros(r, bool), np.zeros(c, bool)
        for forth, back in ((takes, lends), (lends, takes)):  # one row less in this cell, or one more
            rows[:], columns[:] = False, False
            rows[i] = True
            for _ in range(r + c):
                columns |= forth[rows].any(0)
                rows |= back[:, columns].any(1)
            if columns[j]:
                break
        alone[i, j] = not columns[j]
    return alone


def _complete(line: Array, flags: Array, minimum: int) -> None:
    """From the first that is hidden on, around the end, as many more as it takes."""
    if not flags.any():
        return
    order = (int(np.argmax(flags)) + np.arange(len(line))) % len(line)
    fresh, cells = ~flags[order], line[order]
    many = int(flags.sum()) + np.append(0, np.cumsum(fresh))
    most = np.maximum.accumulate(np.append(line[flags].max(), cells))
    total = int(line[flags].sum()) + np.append(0, np.cumsum(np.where(fresh, cells, 0)))
    enough = np.flatnonzero((many > 1) & (most >= minimum) & (total >= 2 * minimum))
    flags[order[: int(enough[0]) if len(enough) else len(line)]] = True


def isolates(patterns: Array, counts: Array, minimum: int) -> bool:
    """Whether some sum of answers, each taken any number of times, is one of 1 to ``minimum`` - 1 rows.

    A sum of the answers' columns of ``patterns`` is not 0 on the rows that it is of. It is of few where it is 0 on all
    other patterns, so where these have a lower rank without those few than with them. Where too many sets of few rows
    would have to be tried, the answer is yes.

    Args:
        patterns: (p, k) bool: the choices that a row is in, of k answers; each once.
        counts: (p,) the rows of each.

    >>> pattern = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1]], bool)  # all rows, and two choices
    >>> isolates(pattern, np.array([50, 40, 30, 3]), 10)  # the few in both are in no sum by themselves
    False
    >>> isolates(np.column_stack([pattern, pattern.any(1) & pattern[:, 1:].any(1)]), np.array([50, 40, 30, 3]), 10)
    True
    """
    whole, few = np.linalg.matrix_rank(patterns.astype(float)), np.flatnonzero(counts < minimum)
    if not len(few) or _rank(patterns, few) == whole:
        return False
    few, tried = few[np.argsort(counts[few], kind="stable")], 0
    ways: list[tuple[tuple[int, ...], int, int]] = [((), 0, 0)]  # taken, their rows, from where on others may be
    while ways:
        taken, rows, start = ways.pop()
        more = [i for i in range(start, len(few)) if rows + counts[few[i]] < minimum]
        ways += [((*taken, int(few[i])), rows + int(counts[few[i]]), i + 1) for i in more]
        if not more and taken:
            tried += 1
            if tried > MOST_TRIED or _rank(patterns, np.array(taken)) < whole:
                return True
    return False


def _rank(patterns: Array, without: Array) -> int:
    left = np.delete(patterns, without, axis=0).astype(float)
    return int(np.linalg.matrix_rank(left)) if left.size else 0


def most_rows(rows: int, minimum: int) -> int:
    """The most rows that a dataset may have of which a multiple of ``minimum`` is told, so that one more is not seen.

    >>> most_rows(60, 5), most_rows(3, 5)
    (64, 4)
    """
    return rows // minimum * minimum + minimum - 1
