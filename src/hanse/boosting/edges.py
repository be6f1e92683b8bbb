"""The edges of the bins of each column, by exact counting: the same however the rows lie over the sites.

A float32 number is one of 2^32 **keys** that are ordered as the numbers are. The coordinator asks how many rows have a
key in each of some **cells** (ranges of 2^w keys), and of those cells that matter, it asks again for their parts: four
to six exchanges, for all columns together. What leaves a site are counts, which add.

- A column with at most as many different values as it may have bins gets a bin for each of them, as far as three rows
  have it. Cells are refined until each holds one key or fewer than three rows.
- Of another column, the quantiles j/B are edges (B: its bins). Cells that a quantile falls into are refined until one
  holds at most 1/16 of a bin's rows, or one key. So no bin has 1/8 more rows than another but for equal values.

A cell that holds fewer than three rows of all sites is never refined: nobody asks for the digits of a value that one
or two rows have (as LightGBM, whose bins hold three rows at least). An edge is the first key of a cell, so that a value
is below it or not as in XGBoost (``x < edge``). A column with missing values gives one of its bins to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np

from hanse.boosting.compiled import at_once, spans
from hanse.boosting.kernel import count_in_cells
from hanse.codec import ArrayOf
from hanse.messages import Array

KEY_BITS = 32
FIRST_BITS = 12  # sign, exponent and three more: 4,096 cells
FEWEST_BITS = 4  # by which cells are refined
FEWEST_ROWS = 3  # of a cell that is refined
_LEAST_ROWS = 1 << 15  # of a thread
FINEST = 16  # parts of a bin that its edges are exact to

_PerColumn = Annotated[Array, ArrayOf("int64", "columns")]
_PerCell = Annotated[Array, ArrayOf("int64", "cells")]


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of all columns that have rows, by column and then by key.

    Args:
        column, start, width, count: cell i are the 2^``width`` keys from ``start`` of one column; so many rows are in
            it.
    """

    column: _PerCell
    start: _PerCell
    width: _PerCell
    count: _PerCell


@dataclass(frozen=True, slots=True)
class Refinement:
    """Which cells are counted in parts.

    Args:
        cells: of each column.
        width, bits: of each column: its cells have 2^``width`` keys, and 2^``bits`` parts.
        start: the first key of each cell.
    """

    cells: _PerColumn
    width: _PerColumn
    bits: _PerColumn
    start: _PerCell

    @property
    def size(self) -> int:
        """Parts of all cells."""
        return int((self.cells << self.bits).sum())

    def fault(self, columns: int) -> str:
        """What is wrong with cells that came from elsewhere, of a table of so many columns; "" if nothing is. The loop
        that counts writes where they say."""
        cells, width, bits, start = self.cells, self.width, self.bits, self.start
        if len(cells) != columns:
            return f"they are of {len(cells)} columns, and there are {columns}"
        if ((cells < 0) | (cells > len(start))).any() or cells.sum() != len(start):
            return "a column has more or fewer of them than begin"
        if ((width < 0) | (width > KEY_BITS) | (bits < 0) | (bits > np.minimum(width, _room(cells)))).any():
            return "they have more keys than there are, or more parts than keys"
        return "one begins where there is no key" if ((start < 0) | (start >> KEY_BITS > 0)).any() else ""


def first(columns: Array) -> Refinement:
    """All keys of each of the ``columns`` (f,) bool are one cell."""
    each = columns.astype(np.int64)
    return Refinement(each, each * KEY_BITS, each * FIRST_BITS, np.zeros(int(each.sum()), np.int64))


# ---------------------------------------------------------------- node


def counts(columns: Iterable[Array], wanted: Refinement) -> Array:
    """(parts,) int64 rows in each part of each cell.

    Args:
        columns: the (n,) values of each column, NaN where missing; those of one that has no cells are not looked at.
    """
    found, cell = [np.zeros(0, np.int64)], 0
    shapes = zip(wanted.cells.tolist(), wanted.width.tolist(), wanted.bits.tolist(), strict=True)
    for values, (cells, width, bits) in zip(columns, shapes, strict=True):
        if cells:
            start = wanted.start[cell : cell + cells]
            first = np.searchsorted(start, np.arange((1 << 12) + 1) << 20)
            raw = np.asarray(values, np.float32).view(np.uint32)
            parts = spans(len(raw), _LEAST_ROWS)
            each = np.zeros((len(parts), cells << bits), np.int64)
            own = ((raw[low:high], start, first, width, bits, each[i]) for i, (low, high) in enumerate(parts))
            at_once(partial(count_in_cells, *given) for given in own)
            found.append(each.sum(axis=0))
            cell += cells
            del values, raw, own  # before the next column is read
    return np.concatenate(found)


# ---------------------------------------------------------------- coordinator


def none() -> Cells:
    """Before anything is counted."""
    empty = np.zeros(0, np.int64)
    return Cells(empty, empty, empty, empty)


def refined(cells: Cells, asked: Refinement, counted: Array) -> Cells:
    """The cells with those that were asked for in the parts of them that have rows."""
    column = np.repeat(np.arange(len(asked.cells)), asked.cells)
    width, bits = asked.width[column], asked.bits[column]
    gone = np.isin(_places(cells.column, cells.start), _places(column, asked.start))
    parts = np.repeat(np.arange(len(column)), 1 << bits)
    within = np.arange(len(parts)) - np.repeat(np.cumsum(1 << bits) - (1 << bits), 1 << bits)
    there = counted > 0
    parts, within = parts[there], within[there]
    new = Cells(
        column[parts],
        asked.start[parts] + (within << (width - bits)[parts]),
        (width - bits)[parts],
        np.asarray(counted[there], np.int64),
    )
    old = (getattr(cells, name)[~gone] for name in _NAMES)
    both = [np.concatenate([a, getattr(new, name)]) for a, name in zip(old, _NAMES, strict=True)]
    order = np.argsort(_places(both[0], both[1]))
    return Cells(*(values[order] for values in both))


def unclear(cells: Cells, bins: Array) -> Refinement | None:
    """Which cells have to be counted in parts before the edges are known; None where they are.

    Args:
        bins: (f,) most bins that the values of each column may have.
    """
    number, width, bits = (np.zeros(len(bins), np.int64) for _ in range(3))
    starts = []
    for column, most in enumerate(bins.tolist()):
        start, widths, count = _of(cells, column)
        if len(count) <= most:
            wanted = count >= FEWEST_ROWS
        else:
            wanted = (count > max(FEWEST_ROWS - 1, int(count.sum()) // (FINEST * most))) & _split_by_quantile(
                count, most
            )
        wanted &= widths > 0
        if wanted.any():  # cells of different widths: the widest first
            wanted &= widths == widths[wanted].max()
            number[column], width[column] = wanted.sum(), widths[wanted].max()
            bits[column] = min(int(_room(number[column])), int(width[column]))
            starts.append(start[wanted])
    return Refinement(number, width, bits, np.concatenate(starts)) if starts else None


def edges(cells: Cells, bins: Array) -> list[Array]:
    """The edges of each column, float32 and ascending, at most one fewer than its ``bins``."""
    found = []
    for column, most in enumerate(bins.tolist()):
        start, _, count = _of(cells, column)
        if len(count) <= most:
            found.append(_value(start[1:]))
            continue
        below = np.cumsum(count)[:-1]  # rows below the start of each cell but the first
        targets = np.arange(1, most) * (below[-1] + count[-1]) / most
        after = np.minimum(np.searchsorted(below, targets), len(below) - 1)
        before = np.maximum(after - 1, 0)
        nearer = np.abs(below[before] - targets) <= np.abs(below[after] - targets)
        found.append(_value(start[1:][np.unique(np.where(nearer, before, after))]))
    return found


def filled(cells: Cells, edges: Sequence[Array], rows: int) -> list[Array]:
    """Of each column of numbers with these edges: how many rows each bin has; in the last are those whose value is
    missing.

    Args:
        rows: of all columns.

    >>> two, one = np.int64([0, 0]), np.float32(1.5).view(np.uint32) | 1 << 31
    >>> filled(Cells(two, np.int64([0, one]), two, np.int64([3, 5])), [np.float32([1.5])], 15)[0].tolist()
    [3, 5, 7]
    """
    found = []
    for column, own in enumerate(edges):
        start, _, count = _of(cells, column)
        bits = np.ascontiguousarray(own, np.float32).view(np.uint32).astype(np.int64)
        keys = np.where(bits >> 31, 0xFFFFFFFF - bits, bits | 1 << 31)
        each = np.zeros(len(own) + 2, np.int64)
        np.add.at(each, np.searchsorted(keys, start, "right"), count)
        each[-1] = rows - count.sum()
        found.append(each)
    return found


_NAMES = ("column", "start", "width", "count")


def _room(cells: Array) -> Array:
    """Into how many bits' parts so many cells of a column may be counted, so that all parts stay few.

    >>> _room(np.array([1, 2, 3, 1000])).tolist()
    [12, 11, 10, 4]
    """
    return np.maximum(FEWEST_BITS, FIRST_BITS - np.ceil(np.log2(np.maximum(cells, 1))).astype(np.int64))


def _of(cells: Cells, column: int) -> tuple[Array, Array, Array]:
    low, high = np.searchsorted(cells.column, [column, column + 1])
    return cells.start[low:high], cells.width[low:high], cells.count[low:high]


def _places(column: Array, start: Array) -> Array:
    return (column << KEY_BITS) | start


def _split_by_quantile(count: Array, bins: int) -> Array:
    """Whether the rank of a quantile lies inside each cell."""
    above = np.cumsum(count)
    below = above - count
    first = below * bins // above[-1] + 1  # the first j whose rank j n / B is more than ``below``
    return np.asarray((first < bins) & (first * above[-1] < above * bins))


def _value(key: Array) -> Array:
    """The float32 number of a key."""
    bits = np.where(key >> 31, key & 0x7FFFFFFF, 0xFFFFFFFF - key)
    return bits.astype(np.uint32).view(np.float32)
