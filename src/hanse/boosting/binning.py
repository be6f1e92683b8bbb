"""Which bin each value is in, and where the bins of each column stand in a histogram."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated

import numpy as np

from hanse.boosting.compiled import at_once, spans
from hanse.boosting.kernel import put_in_bins
from hanse.boosting.trees import LEAF, Trees
from hanse.codec import ArrayOf
from hanse.errors import WireError
from hanse.messages import Array

_LEAST_ROWS = 4096  # of a thread
PRESENT = float(np.finfo(np.float32).max)  # a threshold that every value is below: a split of missing from given


@dataclass(frozen=True)  # without slots, as what follows from it is kept with it
class Binning:
    """The bins of all columns. A column of e edges has e + 1 bins for values, and a last one for missing values.

    Args:
        count: of the edges of each column.
        categories: how many a column of categories has, each of which is a bin; 0 for a column of numbers.

    >>> bins = Binning.of([np.float32([1, 2]), np.float32([])])
    >>> X = np.array([[0.0, 5.0], [1.0, 6.0], [2.5, np.nan]])
    >>> bins.starts.tolist(), bins.put([X[:, :1], X[:, 1:]], 3).tolist()
    ([0, 4, 6], [[0, 0], [1, 0], [2, 1]])
    """

    edges: Annotated[Array, ArrayOf("float32", "edges")]
    count: Annotated[Array, ArrayOf("int64", "columns")]
    categories: Annotated[Array, ArrayOf("int64", "columns")]

    @staticmethod
    def of(edges: Sequence[Array], categories: Array | None = None) -> Binning:
        """From the edges of each column of numbers; ``categories`` (f,): None where there are none."""
        many = np.zeros(len(edges), np.int64) if categories is None else np.asarray(categories, np.int64)
        own = [np.arange(1, k, dtype=np.float32) if k else e for e, k in zip(edges, many.tolist(), strict=True)]
        return Binning(np.concatenate([np.zeros(0, np.float32), *own]), np.array([len(e) for e in own], np.int64), many)

    @cached_property
    def first_edges(self) -> Array:
        """(f + 1,) int64: where the edges of each column begin, and where the last one's end."""
        return np.concatenate([[0], np.cumsum(self.count)])

    @cached_property
    def starts(self) -> Array:
        """(f + 1,) int64: where the bins of each column begin in a histogram, and where the last one's end."""
        return np.concatenate([[0], np.cumsum(self.count + 2)])

    @cached_property
    def column(self) -> Array:
        """(bins,) int64: whose bin each of a histogram is."""
        return np.repeat(np.arange(len(self.count)), self.count + 2)

    @cached_property
    def values(self) -> Array:
        """int64: the bins of a histogram that are of values of a column of numbers."""
        found = np.repeat(self.categories == 0, self.count + 2)
        found[self.starts[1:] - 1] = False
        return np.flatnonzero(found)

    @cached_property
    def between(self) -> Array:
        """int64: those of these after which there are other values of the column."""
        return np.setdiff1d(self.values, self.starts[1:] - 2)

    def thresholds(self, feature: Array, bin: Array) -> Array:
        """float32: a value of ``feature`` is in ``bin``, or one before it, if and only if it is less than this."""
        edges = np.append(self.edges, np.float32(PRESENT))
        place = np.where(bin < self.count[feature], self.first_edges[feature] + bin, len(self.edges))
        return edges[place]

    def fault(self) -> str:
        """What is wrong with bins that came from elsewhere; "" if nothing is. Loops over rows write where they say."""
        count, categories, edges = self.count, self.categories, len(self.edges)
        if ((count < 0) | (count > edges)).any() or count.sum() != edges:
            return "a column has more or fewer edges than there are"
        if ((categories != 0) & (categories != count + 1)).any():
            return "a column has another number of bins than of categories"
        return ""

    def put(self, parts: Iterable[Array], rows: int) -> Array:
        """(n, f) the bin of each value, in one byte, or in two or four where a column has more bins than these number.

        Args:
            parts: (n, k) a few columns after the other, taken as float32; one is looked at after the other, so that
                not all of them are in memory at once.
            rows: n.
        """
        most = int(self.count.max(initial=0)) + 1
        bins = np.empty((rows, len(self.count)), np.min_scalar_type(most))
        starts, place = self.first_edges, 0
        for part in parts:
            here = slice(place, place := place + part.shape[1])
            if place > len(self.count):
                break
            own = partial(put_in_bins, part, self.edges, starts[here.start : here.stop + 1], bins[:, here])
            at_once(partial(own, *span) for span in spans(rows, _LEAST_ROWS))
            del part, own  # before the next one is made
        if place != len(self.count):
            raise WireError(f"the bins that it was told are of {len(self.count)} columns, and its table has others")
        return bins

    def hold(self, trees: Trees) -> bool:
        """Whether rows of one bin go the same way at every split: all thresholds of numbers are edges."""
        first = self.first_edges
        numbers = ((c, value) for c, _, value in _thresholds(trees) if not self.categories[c])
        return all(np.isin(value, self.edges[first[c] : first[c + 1]]).all() for c, value in numbers)

    def last_left(self, trees: Trees) -> Array:
        """(nodes,) int64: the last bin that goes left at each split on a threshold of trees that these bins
        :meth:`hold`."""
        found, first = np.zeros(len(trees.left), np.int64), self.first_edges
        for column, at, value in _thresholds(trees):
            if self.categories[column]:  # their codes are whole numbers, and their bins
                found[at] = np.clip(np.ceil(value), 0, self.categories[column]) - 1
            else:
                found[at] = np.searchsorted(self.edges[first[column] : first[column + 1]], value)
        whole = (trees.left != LEAF) & (trees.value == np.float32(PRESENT))
        found[whole] = self.count[trees.feature[whole]]
        return found

    def splitting(self, trees: Trees) -> Binning:
        """Bins whose edges are the thresholds of these trees, for those that are none of one's own."""
        edges = [np.zeros(0, np.float32)] * len(self.count)
        for column, _, value in _thresholds(trees):
            edges[column] = np.unique(value)
        return Binning.of(edges, self.categories)


def _thresholds(trees: Trees) -> Iterable[tuple[int, Array, Array]]:
    """Of each column that is split on thresholds: which nodes do, and theirs."""
    split = (trees.left != LEAF) & (trees.listed == 0) & (trees.value != np.float32(PRESENT))
    for column in np.unique(trees.feature[split]).tolist():
        at = np.flatnonzero(split & (trees.feature == column))
        yield column, at, trees.value[at]
