"""The best split of a column of categories.

A column of few categories is split into one of them and all others. Of a column of more, the categories are ordered by
what a leaf of their rows alone would weigh, and split in this order: for a convex loss no other two groups would be
better (Fisher 1958, "On grouping for maximum homogeneity"). The categories that are listed go right.

Reference: XGBoost 3.2, ``src/tree/hist/evaluate_splits.h``, ``EnumerateOneHot`` and ``EnumeratePart``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from hanse.messages import Array

Gain = Callable[[Array, Array], Array]  # of left sums (m, k, 2) and whether each is allowed (m, k)


@dataclass(frozen=True, slots=True)
class Grouping:
    """A split of one column of categories, for each of m nodes.

    Args:
        gain: (m,).
        left: (m, 2) int64, sums of the left part.
        listed: (m, categories) bool, those that go right.
        default_left: whether missing values go left, at every node.
    """

    gain: Array
    left: Array
    listed: Array
    default_left: bool


def groupings(sums: Array, total: Array, weights: Array, gain: Gain, few: int, most: int) -> Iterator[Grouping]:
    """The best split of each kind, in the order in which they count where their gains are equal.

    Args:
        sums: (m, categories, 2) int64.
        total: (m, 2) int64, of all rows of the nodes, with those whose value is missing.
        weights: (m, categories), what a leaf of each category's rows would weigh.
        few: fewer categories than these are split one from all others.
        most: categories of the smaller group of other splits.
    """
    categories = sums.shape[1]
    if categories < few:
        missing = total - sums.sum(axis=1)
        for default_left, right in ((True, sums), (False, sums + missing[:, None])):
            yield _best(total[:, None] - right, np.eye(categories, dtype=bool)[None], default_left, gain)
        return
    order = np.argsort(weights, axis=1, kind="stable")
    ordered = np.take_along_axis(sums, order[:, :, None], axis=1)
    place = np.argsort(order, axis=1)[:, None, :]  # (m, 1, categories)
    steps = min(most, categories) - 1
    first = np.arange(1, steps + 1)[None, :, None]  # so many of the lightest go right
    yield _best(total[:, None] - np.cumsum(ordered, axis=1)[:, :steps], place < first, True, gain)
    heaviest = np.cumsum(ordered[:, ::-1], axis=1)[:, :steps]  # or so many of the heaviest go left
    yield _best(heaviest, place < categories - first, False, gain)


def _best(left: Array, listed: Array, default_left: bool, gain: Gain) -> Grouping:
    """``left`` (m, k, 2) and ``listed`` (m or 1, k, categories) of k splits."""
    m, k = left.shape[:2]
    if not k:
        return Grouping(np.full(m, -np.inf), np.zeros((m, 2), np.int64), np.zeros((m, listed.shape[2]), bool), False)
    found = gain(left, np.ones((m, k), bool))
    at, nodes = found.argmax(axis=1), np.arange(m)
    which = np.broadcast_to(listed, (m, k, listed.shape[2]))[nodes, at]
    return Grouping(found[nodes, at], left[nodes, at], which, default_left)
