"""Exact SHAP values of many rows, compiled, and their sums over a site's rows: what each feature adds to predictions.

The values are those of :func:`hanse.boosting.importance.shap`, the readable twin, where the mathematics stand. What a
leaf adds depends on a row only by which features of its path the row follows, so it is computed once for each such set
(Yang 2021, "Fast TreeSHAP", version 2).

Sums over rows are whole numbers in units of a power of two: no SHAP value is larger than the sum over trees of how far
their leaves are apart, which everybody knows who knows the trees. So the sums of all sites are exact, in every order.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from hanse.boosting import scales
from hanse.boosting.compiled import at_once, spans
from hanse.boosting.kernel import attribute, route
from hanse.boosting.trees import LEAF, Trees, segments
from hanse.messages import Array

_MOST_SETS = 10  # features of a path whose sets are kept: 2^10
_LEAST_ROWS = 256  # of a thread


def values(trees: Trees, base: Array, X: Array) -> Array:
    """(n, outputs, f + 1) float64, as :func:`hanse.boosting.importance.shap`; from float32 of (n, f) ``X``."""
    found = np.zeros((len(base), len(X), X.shape[1] + 1))
    found[:, :, -1] = base[:, None]
    lists = segments(trees)
    for tree, group in enumerate(trees.group.tolist()):
        nodes = slice(int(trees.starts[tree]), int(trees.starts[tree + 1]))
        own = [getattr(trees, name)[nodes] for name in ("left", "feature", "value", "default_left")]
        ends, paths = lists[nodes.start : nodes.stop + 1], _paths(trees, nodes)

        def some(
            low: int,
            high: int,
            group: int = group,
            own: list[Array] = own,
            ends: Array = ends,
            paths: list[_Path] = paths,
        ) -> None:
            left = np.zeros((high - low, len(own[0])), np.uint8)
            route(X[low:high], *own, ends, trees.categories, left)
            for steps, slots, features, shares, value in paths:
                d = len(features)
                kept = 1 << d if d <= _MOST_SETS else 0
                table, known = np.zeros((kept, d)), np.zeros(kept, np.uint8)
                attribute(left, steps, slots, features, shares, value, table, known, found[group, low:high])

        at_once(partial(some, *span) for span in spans(len(X), _LEAST_ROWS))
    return found.transpose(1, 0, 2)


_Path = tuple[Array, Array, Array, Array, float]


def _paths(trees: Trees, nodes: slice) -> list[_Path]:
    """Of each leaf of a tree: its steps, their slots, the features, the shares of cover, and the value."""
    left, right, feature, cover, value = (
        getattr(trees, name)[nodes].tolist() for name in ("left", "right", "feature", "cover", "value")
    )
    found: list[_Path] = []
    waiting: list[tuple[int, list[tuple[int, int]], dict[int, float]]] = [(0, [], {})]
    while waiting:
        node, steps, shares = waiting.pop()
        if left[node] == LEAF:
            place = {column: i for i, column in enumerate(shares)}
            slots = [place[feature[at]] for at, _ in steps]
            found.append(
                (
                    np.array(steps, np.int32).reshape(-1, 2),
                    np.array(slots, np.int32),
                    np.array(list(shares), np.int32),
                    np.array(list(shares.values()), np.float64),
                    float(value[node]),
                )
            )
            continue
        for child, side in ((left[node], 1), (right[node], 0)):
            part = cover[child] / cover[node]
            more = {**shares, feature[node]: shares.get(feature[node], 1.0) * part}
            waiting.append((child, [*steps, (node, side)], more))
    return found


def unit(trees: Trees) -> int:
    """The exponent of the unit of sums of SHAP values: no value is larger than 2^30 of it."""
    apart = 0.0
    for low, high in zip(trees.starts[:-1], trees.starts[1:], strict=True):
        leaves = trees.value[low:high][trees.left[low:high] == LEAF].astype(np.float64)
        apart += float(leaves.max() - leaves.min())
    return scales.bounded(apart * (1 + 1e-6) if apart else 1.0)


def sums(found: Array, unit: int) -> dict[str, Array]:
    """Σ|φ|, Σφ and Σφ² (outputs, f) int64 of (n, outputs, f + 1) values, in units of 2^``unit``, the squares in units
    of 2^(2 ``unit`` + 30)."""
    own = found[:, :, :-1]
    shape = own.shape[1:]
    whole = scales.whole(own.reshape(len(own), math.prod(shape)), np.full(math.prod(shape), unit)).astype(np.int64)
    squares = np.rint(np.ldexp(whole.astype(np.float64) ** 2, -scales.BITS)).astype(np.int64)
    parts = {"shap_size": np.abs(whole), "shap": whole, "shap_squares": squares}
    return {name: part.sum(axis=0).reshape(shape) for name, part in parts.items()}
