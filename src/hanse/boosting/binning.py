"""Which bin each value is in, and where the bins of each column stand in a histogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np

from hanse.boosting.compiled import at_once, spans
from hanse.boosting.kernel import put_in_bins
from hanse.codec import ArrayOf
from hanse.messages import Array

_LEAST_ROWS = 4096  # of a thread
PRESENT = float(np.finfo(np.float32).max)  # a threshold that every value is below: a split of missing from given


@dataclass(frozen=True, slots=True)
class Binning:
    """The bins of all columns. A column of e edges has e + 1 bins for values, and a last one for missing values.

    Args:
        count: of the edges of each column.
        categories: how many a column of categories has, each of which is a bin; 0 for a column of numbers.

    >>> bins = Binning.of([np.float32([1, 2]), np.float32([])])
    >>> bins.starts.tolist(), bins.put(np.array([[0.0, 5.0], [1.0, 6.0], [2.5, np.nan]])).tolist()
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

    @property
    def first_edges(self) -> Array:
        """(f + 1,) int64: where the edges of each column begin, and where the last one's end."""
        return np.concatenate([[0], np.cumsum(self.count)])

    @property
    def starts(self) -> Array:
        """(f + 1,) int64: where the bins of each column begin in a histogram, and where the last one's end."""
        return np.concatenate([[0], np.cumsum(self.count + 2)])

    def thresholds(self, feature: Array, bin: Array) -> Array:
        """float32: a value of ``feature`` is in ``bin``, or one before it, if and only if it is less than this."""
        edges = np.append(self.edges, np.float32(PRESENT))
        place = np.where(bin < self.count[feature], self.first_edges[feature] + bin, len(self.edges))
        return edges[place]

    def put(self, X: Array) -> Array:
        """(n, f) the bin of each value of ``X``, taken as float32: uint8, or uint16 where a column has over 256."""
        bins = np.empty(X.shape, np.uint16 if (self.count > 254).any() else np.uint8)
        starts = self.first_edges
        tasks = (partial(put_in_bins, X, self.edges, starts, bins, *span) for span in spans(len(X), _LEAST_ROWS))
        at_once(tasks)
        return bins
