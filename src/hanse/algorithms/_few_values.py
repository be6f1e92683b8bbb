"""Columns of two or three values: their mean is a count, so what is told of their sums tells how many rows have each.

Of 200 rows with a mean of 0.015 of a column of 0 and 1, three are 1; with the variance, the same follows of three
values, and from a covariance the cell of two such columns' table. Where an owner sets ``hide_rare_values``, such sums
are kept back where one of the values stands in fewer rows than the minimum, with the groups that would tell it
otherwise, as cells of a table are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hanse.messages import Array
from hanse.queries import Values
from hanse.suppression import hidden_groups

MOST = 3  # values of a column whose sums tell how many rows have each
_FIRST = 64  # rows that show that most columns have more


class FewValues:
    """Of the rows of one group: in how many each value of a column of few stands, among those that have another column
    too; and each pair of values of two such columns."""

    def __init__(self, columns: int) -> None:
        self._values: list[set[float] | None] = [set() for _ in range(columns)]  # None: many
        self._own: dict[tuple[int, int], Counter[float]] = {}
        self._both: dict[tuple[int, int], Counter[tuple[float, float]]] = {}

    def add(self, rows: Values) -> None:
        """One batch."""
        x = [np.asarray(column.values, np.float64) for column in rows.columns]
        there = [np.isfinite(values) for values in x]
        for i, values in enumerate(x):
            self._values[i] = _more(self._values[i], values[there[i]])
        few = [i for i, seen in enumerate(self._values) if seen is not None]
        self._own = {pair: found for pair, found in self._own.items() if pair[0] in few}
        self._both = {pair: found for pair, found in self._both.items() if {*pair} <= {*few}}
        for i in few:
            for j in range(len(x)):
                both = there[i] & there[j]
                self._own.setdefault((i, j), Counter()).update(x[i][both].tolist())
                if j in few and i < j:
                    cells = zip(x[i][both].tolist(), x[j][both].tolist(), strict=True)
                    self._both.setdefault((i, j), Counter()).update(cells)

    def rare(self, minimum: int) -> Array:
        """(p, p) bool, symmetric: the pairs of columns of which a value, or a pair of values, stands in few rows."""
        found = np.zeros((len(self._values),) * 2, bool)
        counts = {pair: min(cells.values(), default=minimum) for pair, cells in self._own.items()}
        joint = {pair: min(cells.values(), default=minimum) for pair, cells in self._both.items()}
        for (i, j), least in (*counts.items(), *joint.items()):
            found[i, j] |= least < minimum
        return found | found.T

    def counts(self) -> Counter[float]:
        """Of a single column: rows of each value; none where it has many."""
        return self._own.get((0, 0), Counter())


def _more(seen: set[float] | None, values: Array) -> set[float] | None:
    """The values with those of a batch; None where they are many."""
    for part in (values[:_FIRST], values):
        if seen is not None:
            seen = seen | {*np.unique(part).tolist()}
            seen = seen if len(seen) <= MOST else None
    return seen


def hidden_sums(groups: Sequence[FewValues], back: Array, shape: Sequence[int], minimum: int) -> Array:
    """(g,) bool: groups whose sums of a column to keep back: ``back``, those of a rare value, and so many more that
    what all rows exceed the others by has the minimum of each value, or none.

    Args:
        groups: those without a label included.
        shape: of the groups, whose lines have totals; () for all rows.
    """
    values = sorted({value for group in groups for value in group.counts()})
    counts = np.array([[group.counts()[value] for value in values] for group in groups], np.int64)
    small = ((counts > 0) & (counts < minimum)).any(1)
    return hidden_groups(counts, back | small, shape, minimum) if shape and small.any() else back | small
