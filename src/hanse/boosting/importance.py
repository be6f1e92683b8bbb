"""How much each feature counts in boosted trees: by their splits, as ``Booster.get_score``, and by what it adds to
predictions (SHAP values).

The SHAP value of feature i for a row is its Shapley value in the game whose worth of a set S of features is the margin
that is expected where only those in S are known; at a split on another feature, both ways count by their covers. For a
leaf of value v whose path asks d distinct features, with z_i the product of the shares of cover along the edges of
feature i and o_i whether the row follows them all::

    φ_i = v (o_i - z_i) Σ_{S ⊆ path without i} |S|! (d - |S| - 1)! / d! Π_{j in S} o_j Π_{j not in S} z_j

and the values of a row add up to its margin less the expected one. It depends on the row only by which o_i hold, so a
leaf's sums are computed once for each combination that occurs.

Reference: Lundberg, Erion and Lee 2018, "Consistent Individualized Feature Attribution for Tree Ensembles"; Yang 2021,
"Fast TreeSHAP".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hanse.boosting.trees import LEAF, Trees, goes_left, segments
from hanse.messages import Array

Kind = Literal["weight", "gain", "cover", "total_gain", "total_cover"]


def scores(trees: Trees, features: int, kind: Kind = "gain") -> Array:
    """(f,) float64 as ``Booster.get_score``; 0 of a feature that no split asks.

    Args:
        kind: ``weight``, the number of splits; ``gain`` and ``cover``, their mean; ``total_gain``, ``total_cover``.
    """
    inner = trees.left != LEAF
    asked = trees.feature[inner]
    count = np.bincount(asked, minlength=features).astype(np.float64)
    if kind == "weight":
        return count
    of = (trees.gain if kind.endswith("gain") else trees.cover)[inner]
    total = np.bincount(asked, of.astype(np.float64), features)
    return total if kind.startswith("total") else np.divide(total, count, out=np.zeros(features), where=count > 0)


def shares(trees: Trees, features: int) -> Array:
    """(f,) float64, each feature's share of the gain of all splits; zeros where there are none."""
    gain = scores(trees, features, "total_gain")
    return gain / gain.sum() if gain.sum() > 0 else gain


def shap(trees: Trees, base: Array, X: Array) -> Array:
    """(n, outputs, f + 1) float64 SHAP values of (n, f) rows, and last what is expected of any row; a row's sum is its
    margin.

    Args:
        base: (outputs,) margins without trees.
    """
    X = np.asarray(X, np.float32)
    found = np.zeros((len(X), len(base), X.shape[1] + 1))
    found[:, :, -1] = base
    lists = segments(trees)
    for group, low, high in zip(trees.group, trees.starts[:-1], trees.starts[1:], strict=True):
        one = _Tree(trees, int(low), int(high), lists, X)
        for value, path in one.paths():
            found[:, group, -1] += value * math.prod(share for share, _ in path.values())
            if path:
                found[:, group, list(path)] += value * _sums(path)
    return found


@dataclass(frozen=True, slots=True)
class _Tree:
    trees: Trees
    low: int
    high: int
    lists: Array
    X: Array

    def paths(self) -> Iterator[tuple[float, dict[int, tuple[float, Array]]]]:
        """Each leaf: its value, and feature to (share of cover, which rows follow) of its path."""
        trees, low = self.trees, self.low
        waiting: list[tuple[int, dict[int, tuple[float, Array]]]] = [(0, {})]
        while waiting:
            node, path = waiting.pop()
            at = low + node
            if trees.left[at] == LEAF:
                yield float(trees.value[at]), path
                continue
            feature, left = int(trees.feature[at]), goes_left(trees, at, self.lists, self.X)
            share, follows = path.get(feature, (1.0, np.ones(len(self.X), bool)))
            for child, goes in ((int(trees.left[at]), left), (int(trees.right[at]), ~left)):
                part = float(trees.cover[low + child]) / float(trees.cover[at])
                waiting.append((child, {**path, feature: (share * part, follows & goes)}))


def _sums(path: dict[int, tuple[float, Array]]) -> Array:
    """(n, d) what a leaf of value 1 adds to the SHAP values of the features of its path."""
    z = np.array([share for share, _ in path.values()])
    kinds, which = np.unique(np.stack([follows for _, follows in path.values()], 1), axis=0, return_inverse=True)
    d = len(z)
    weights = np.array([math.factorial(k) * math.factorial(d - k - 1) / math.factorial(d) for k in range(d)])
    table = np.zeros((len(kinds), d))
    for i in range(d):
        sets = np.zeros((len(kinds), d))  # of the features before: Σ over sets of k of Π o Π z
        sets[:, 0] = 1.0
        for j in range(d):
            if j != i:
                more = sets[:, :-1] * kinds[:, [j]]
                sets *= z[j]
                sets[:, 1:] += more
        table[:, i] = (kinds[:, i] - z[i]) * (sets @ weights)
    return np.asarray(table[which.ravel()])
