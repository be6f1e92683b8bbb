"""Ordered cells of which neighbours are told together, until each sum holds enough rows.

Of a run of cells, first to last, a node tells how many rows it holds and no more. Three arrays carry that, and each
adds over sites, though every site has runs of its own:

- ``first`` and ``last``: the rows of a run at its first cell, and at its last. Whatever the rows' true cells are, the
  true cumulative count lies between theirs: cum(last) <= cum(true) <= cum(first), at each site and so in the sum.
- the rows spread over the run: what is taken for the truth. Put all at one end, every site and group moves the same
  way, and no number of sites mends it; spread, what is left is small and differs from site to site.

All three follow from runs and their sums. The spread needs an extent for the outermost runs, which have none (what
reaches farthest is one person's value): they get their neighbour's rows per length.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import add

import numpy as np

from hanse.messages import Array


def runs(parts: Array, minimum: int, within: Array | None = None) -> Array:
    """(r, 2) first and last cell of each run of the ``k`` ordered cells, so that each of the ``p`` counts of a run is 0
    or at least ``minimum``. Cells that are in no run are empty; no run: there are too few rows.

    Args:
        parts: (p, k) counts.
        within: (r', 2) runs of other counts, whose ends only may be ends.

    A cell that is enough by itself stands by itself if nothing is pending. Otherwise neighbours are joined from the end
    of the run before; what is left at the end is joined to the last runs, as many as it takes. So the outermost
    runs begin with the first cell and end with the last one: no extreme is told, unless enough rows share it.

    >>> runs(np.array([[4, 4, 4, 30, 0, 3]]), 10).tolist()
    [[0, 2], [3, 5]]
    >>> runs(np.array([[30, 9, 0, 1, 0]]), 10).tolist()
    [[0, 0], [1, 4]]
    >>> runs(np.array([[20, 20, 0], [0, 0, 3]]), 10).tolist()
    []
    >>> runs(np.array([[5, 5, 5, 5, 12]]), 10, np.array([[0, 3], [4, 4]])).tolist()
    [[0, 3], [4, 4]]
    """
    parts = np.atleast_2d(parts)
    if within is not None:
        if not len(within):
            return within
        upto = np.concatenate([np.zeros((len(parts), 1), parts.dtype), np.cumsum(parts, 1)], 1)
        blocks = upto[:, within[:, 1] + 1] - upto[:, within[:, 0]]
        found = runs(blocks, minimum)
        # what lies between two runs is empty for the others, and so for these
        return np.stack([within[found[:, 0], 0], within[found[:, 1], 1]], 1) if len(found) else found
    full, length = np.flatnonzero(parts.any(0)), parts.shape[1]
    total: list[int] = [0] * len(parts)
    found_runs: list[tuple[int, int, list[int]]] = []
    start, pending = 0, False
    # plain numbers: of so few at a time, arrays take ten times as long
    for cell, here in zip(full.tolist(), parts[:, full].T.tolist(), strict=True):
        if not pending and _enough(here, minimum):
            found_runs.append((cell, cell, here))
            start = cell + 1
            continue
        total, pending = [*map(add, total, here)], True
        if _enough(total, minimum):
            found_runs.append((start, cell, total))
            start, total, pending = cell + 1, [0] * len(parts), False
    while pending and found_runs:
        start, _, more = found_runs.pop()
        total = [*map(add, total, more)]
        pending = not _enough(total, minimum)
        if not pending:
            found_runs.append((start, length - 1, total))
    if pending:
        return np.zeros((0, 2), np.int64)
    if found_runs and found_runs[-1][0] < found_runs[-1][1]:  # many rows end it: where the last stands is not told
        found_runs[-1] = (found_runs[-1][0], length - 1, found_runs[-1][2])
    return np.array([(a, b) for a, b, _ in found_runs], np.int64).reshape(-1, 2)


def even(counts: Array, found: Array, minimum: int) -> Array:
    """As many runs of about equally many rows: what is left over is not all in the last one, which would place whatever
    rests on the runs too low. Where a cell is a run by itself, the runs stay as they are.

    Args:
        counts: (k,) of one part.
        found: its :func:`runs`.

    >>> even(np.ones(29, int), np.array([[0, 9], [10, 28]]), 10).tolist()
    [[0, 14], [15, 28]]
    """
    if len(found) < 2 or (found[:, 0] == found[:, 1]).any():
        return found
    upto = np.cumsum(counts)
    wanted = upto[-1] * np.arange(1, len(found)) / len(found)
    after = np.searchsorted(upto, wanted)
    before = np.searchsorted(upto, upto[np.maximum(after - 1, 0)])  # a cell with rows, as every end of a run
    last = np.where(wanted - upto[before] < upto[after] - wanted, before, after)
    ends = np.append(last, len(counts) - 1)
    rows = np.diff(np.concatenate([[0], upto[ends]]))
    if (rows < minimum).any():
        return found
    return np.stack([np.concatenate([[0], last + 1]), ends], 1)


def ending(found: Array, other: Array) -> Array:
    """The runs of ``found``, joined to end only where runs of ``other`` do, which are made of them.

    >>> ending(np.array([[0, 1], [2, 3], [4, 4]]), np.array([[0, 3], [4, 4]])).tolist()
    [[0, 3], [4, 4]]
    """
    last = np.isin(found[:, 1], other[:, 1])
    first = np.concatenate([[True], last[:-1]])
    return np.stack([found[first, 0], found[last, 1]], 1)


def _enough(counts: Sequence[int], minimum: int) -> bool:
    return all([not count or count >= minimum for count in counts])


def sums(counts: Array, found: Array) -> Array:
    """(r,) rows of each run."""
    upto = np.concatenate([[0], np.cumsum(counts)])
    return np.asarray(upto[found[:, 1] + 1] - upto[found[:, 0]], np.int64)


def at(rows: Array, places: Array, cells: int) -> Array:
    """(k,) the ``rows`` of the runs at one place of each."""
    out = np.zeros(cells, np.int64)
    np.add.at(out, places, rows)
    return out


def extents(edges: Array, found: Array, rows: Array, begin: float | None = None) -> tuple[Array, Array]:
    """(r,) low and high of each run on the scale of ``edges`` (k + 1,), the outermost as long as their neighbours'
    density says, or one cell where there is none that has an extent.

    Args:
        rows: (r,) of all parts.
        begin: where the first run begins, if that is known.
    """
    low, high = edges[found[:, 0]].astype(float), edges[found[:, 1] + 1].astype(float)
    first, last = found[0, 0] == 0 < found[0, 1], found[-1, 0] < found[-1, 1] == len(edges) - 2
    inner = rows[int(first and begin is None) : len(rows) - int(last)]  # those that have an extent
    if first and begin is not None:
        low[0] = max(low[0], begin)
    elif first:
        near = _near(inner, int(rows[0]))
        low[0] = high[0] - (high[near] - low[1]) * rows[0] / rows[1 : near + 1].sum() if near else edges[found[0, 1]]
    if last:
        near = _near(inner[::-1], int(rows[-1]))
        at = len(rows) - 1 - near
        high[-1] = low[-1] + (high[-2] - low[at]) * rows[-1] / rows[at:-1].sum() if near else edges[found[-1, 0] + 1]
    return low, high


def _near(inner: Array, rows: int) -> int:
    """Of how many of the runs, from the nearest on, it takes to have as many rows; all, if they have fewer."""
    return min(int(np.searchsorted(np.cumsum(inner), rows)) + 1, len(inner))


def spread(rows: Array, whole: Array, found: Array, low: Array, high: Array, edges: Array) -> Array:
    """(k,) the ``rows`` of each run between its ``low`` and ``high``, in whole rows.

    A run begins behind the last row of the run before, and its own last row ends it. So this row stands at the end, and
    the others, which are anywhere in between, are spread evenly. (All of them spread would be half a row too low at
    each site.) Nobody knows whose row ends a run of several parts: each part has its share. The last run ends behind
    its rows.

    Args:
        rows, whole: (r,) of one part, and of all parts together.

    >>> edges, run = np.arange(0.0, 13.0), np.array([[0, 10], [11, 11]])
    >>> spread(np.array([3, 0]), np.array([3, 5]), run, [0.0, 11.0], [11.0, 12.0], edges).tolist()
    [0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0]
    """
    out = np.zeros(len(edges) - 1, np.int64)
    for n, of, (first, last), a, b in zip(rows.tolist(), whole.tolist(), found.tolist(), low, high, strict=True):
        if first == last or not n:
            out[first] += n
            continue
        share = np.clip((edges[first : last + 2] - a) / max(b - a, 1e-300), 0.0, 1.0)
        share[0], ends = 0.0, int(last < len(out) - 1)
        before = np.floor(share * n * ((of - ends) / of) + 0.5).astype(np.int64)
        before[-1] = n
        out[first : last + 1] += np.diff(before)
    return out


def told(parts: Sequence[Array], found: Array, low: Array, high: Array, edges: Array) -> list[dict[str, Array]]:
    """Of each part (k,) its rows spread, at the first and at the last cell of each run.

    Args:
        low, high: (r,) between which the rows of each run are spread, on the scale of ``edges`` (k + 1,).
    """
    cells, whole, out = len(edges) - 1, sums(np.sum(parts, axis=0), found), []
    for part in parts:
        rows = sums(part, found)
        ends = {name: at(rows, found[:, side], cells) for side, name in enumerate(("first", "last"))}
        out.append({"counts": spread(rows, whole, found, low, high, edges), **ends})
    return out
