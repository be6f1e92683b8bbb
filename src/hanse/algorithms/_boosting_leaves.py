"""Leaves of exact boosting that are quantiles of their rows' residuals, where an objective's gradient does not say how
far to go (:attr:`hanse.boosting.objective.Objective.quantile`).

A tree that has grown is asked for four times more: its rows go to their leaves, and their residuals are counted
(:mod:`hanse.boosting.quantiles`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from hanse.boosting import quantiles
from hanse.boosting.quantiles import Sought
from hanse.boosting.trees import LEAF, Trees
from hanse.codec import ArrayOf
from hanse.messages import Array


@dataclass(frozen=True, slots=True)
class Leaves:
    """Of the trees of a round.

    Args:
        sought: as far as it is known.
        rows: of each leaf, or what they weigh, once it is counted.
    """

    sought: Sought
    rows: Annotated[Array, ArrayOf("int64", "leaves")] | None = None


def begun(trees: Trees) -> Leaves:
    """Nothing is counted."""
    return Leaves(quantiles.begin(np.flatnonzero(trees.left == LEAF)))


def told(leaves: Leaves, counts: Array, alpha: float, weighted: bool) -> Leaves:
    """With the counts of all sites, or where rows are ``weighted`` the sums of their weights."""
    rows = counts.sum(axis=1) if leaves.rows is None else leaves.rows
    return Leaves(quantiles.narrowed(leaves.sought, counts, alpha, weighted), rows)


def known(leaves: Leaves) -> bool:
    """Whether nothing more has to be asked."""
    return leaves.sought.known == quantiles.BITS * quantiles.EXCHANGES


def filled(trees: Trees, leaves: Leaves, alpha: float, weighted: bool, learning_rate: float) -> Trees:
    """The trees with the quantiles in their leaves; one that has no rows stays as it is."""
    rows = np.zeros(0, np.int64) if leaves.rows is None else leaves.rows
    at, value = np.flatnonzero(trees.left == LEAF)[rows > 0], trees.value.copy()
    found = quantiles.quantiles(leaves.sought, rows, alpha, weighted)
    value[at] = found[rows > 0] * np.float32(learning_rate)
    return replace(trees, value=value)
