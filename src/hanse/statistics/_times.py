"""The cells of time in which survival is counted, and the runs of them that hold enough rows.

A cell ends at a number of so many binary digits, so it is the same at every site, whatever grid is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hanse.messages import Array
from hanse.queries import Arrays
from hanse.statistics import _joined

BITS = 13  # whole numbers up to 8192 (days of 22 years) are cells of their own
KINDS = ("events", "gone")
HELD = (
    *KINDS,
    "unseen",
)  # of which a run holds the minimum, or none; unseen: rows of which nobody says whether an event
_REST = np.int64((1 << (53 - BITS)) - 1)


def cell_end(time: Array, bits: int = BITS) -> Array:
    """The end of the cell in which each time (>= 0) stands: the next number of so many binary digits."""
    rest = np.int64((1 << (53 - bits)) - 1)
    return np.asarray((((time + 0.0).view(np.int64) + rest) & ~rest).view(np.float64))


def cell_start(end: Array) -> Array:
    """Where the cell that ends there begins; below 0 for that of 0."""
    return np.asarray(
        np.where(end > 0, (np.maximum((end + 0.0).view(np.int64) - 1, 0) & ~_REST).view(np.float64), -1.0)
    )


class TimeCells:
    """The cells in which rows stand, with the counts of parts of the rows."""

    def __init__(self, parts: Sequence[Arrays]) -> None:
        ends = [cell_end(part["times"]) for part in parts]
        self.ends = np.unique(np.concatenate(ends))
        self.starts = np.maximum(cell_start(self.ends), -1.0)
        self._at = {id(part): np.searchsorted(self.ends, end) for part, end in zip(parts, ends, strict=True)}

    def borders(self) -> Array:
        """(cells,) the number of the fewest binary digits from the end of each cell to the begin of the next."""
        out, until = self.ends.copy(), np.append(self.starts[1:], self.ends[-1:])
        for bits in range(BITS, 0, -1):
            rounded = cell_end(self.ends, bits)
            out = np.where(rounded <= until, rounded, out)
        return out

    def counts(self, part: Arrays) -> Array:
        """(2, cells) events and censorings."""
        return self.held(part)[: len(KINDS)]

    def held(self, part: Arrays) -> Array:
        """(3, cells) those, and the rows that have a time and no event recorded: histograms of the times count them, a
        curve does not, so the difference of the two is theirs."""
        out = np.zeros((len(HELD), len(self.ends)), np.int64)
        for row, kind in enumerate(HELD):
            np.add.at(out[row], self._at[id(part)], part[kind])
        return out


def runs(parts: Array, margins: Sequence[Array], minimum: int) -> tuple[Array, Array]:
    """Runs of which both kinds are told, and those inside of them of which all rows are.

    Args:
        parts: (3 p, cells) what is :data:`HELD` of each part of the rows.
        margins: the same of other parts, at the ends of whose runs these end.
    """
    whole = np.stack([parts[kind :: len(HELD)].sum(0) for kind in range(len(HELD))])
    rows = _joined.runs(_rows(whole), minimum)
    both = _joined.runs(whole, minimum, rows)  # so what kind of row completes it is not told
    around = []
    for margin in margins:
        inner = _joined.runs(margin, minimum, both)
        if len(inner):
            around.append((inner, inside(margin, inner, rows, minimum)))
    for inner, short in around:
        both, rows = _joined.ending(both, inner), _joined.ending(rows, short)
    both = _joined.runs(parts, minimum, both)
    return both, inside(parts, both, rows, minimum)


def inside(parts: Array, both: Array, within: Array, minimum: int) -> Array:
    counts = _rows(parts)
    found = [within[:0]]
    for first, last in both:
        found.append(_joined.runs(counts, minimum, within[(within[:, 0] >= first) & (within[:, 1] <= last)]))
    return np.concatenate(found)


def _rows(parts: Array) -> Array:
    """(2 p, cells) rows that a curve is of, of either kind, and those that it lacks."""
    events, gone, unseen = (parts[kind :: len(HELD)] for kind in range(len(HELD)))
    return np.concatenate([events + gone, unseen])
