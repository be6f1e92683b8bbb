"""Boosted trees: what exact boosting learns, and what it predicts, for everybody to read.

The margin of output k for a row x is a sum over the trees that are for this output, in their order::

    F_k(x) = b_k + w_1(x) + w_2(x) + ...

in float32, one addition a tree, as XGBoost adds: so a row has the same bits at every site and in every
``xgboost.Booster`` that is made of the trees (:mod:`hanse.boosting.booster`).

At a node of a tree a row goes left if its value is less than the threshold; of a split on categories, if its category
is not listed; where its value is missing, by ``default_left``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np

from hanse.codec import ArrayOf
from hanse.learning import ensembles
from hanse.messages import Array

LEAF = -1
MOST_CATEGORIES = 1 << 14  # of one feature: XGBoost holds one bit for each in every split

_PerTree = Annotated[Array, ArrayOf("int32", "trees")]
_Whole = Annotated[Array, ArrayOf("int32", "nodes")]
_Number = Annotated[Array, ArrayOf("float32", "nodes")]


@dataclass(frozen=True, slots=True)
class Trees:
    """Trees one after the other, and of each its nodes one after the other; node 0 is the root.

    Args:
        size: nodes of each tree.
        group: the output that a tree is for, from 0.
        left, right: positions within the tree, after the node's own; ``LEAF`` for a leaf.
        feature: what is split on; any number at a leaf.
        value: the threshold of a split, or what a leaf adds to the margin. Of a split on categories: 0.
        default_left: 1 where missing values go left.
        gain: what the split takes from the loss; 0 at a leaf.
        cover: Σ of the Hessians of the rows that came here.
        weight: what the node would add if it were a leaf; before shrinkage where it is none, as XGBoost keeps it.
        listed: how many categories the split lists; 0 of a threshold and of a leaf.
        categories: those of all nodes, one after the other, in each node ascending.
    """

    size: _PerTree
    group: _PerTree
    left: _Whole
    right: _Whole
    feature: _Whole
    value: _Number
    default_left: Annotated[Array, ArrayOf("uint8", "nodes")]
    gain: _Number
    cover: _Number
    weight: _Number
    listed: _Whole
    categories: Annotated[Array, ArrayOf("int32", "categories")]

    def __len__(self) -> int:
        return len(self.size)

    @property
    def starts(self) -> Array:
        """(T + 1,) int64: where the nodes of each tree begin, and where the last one's end."""
        return ensembles.starts({"size": self.size})

    def some(self, first: int, last: int) -> Trees:
        """The trees from ``first`` to before ``last``, without a copy."""
        low, high = (int(n) for n in self.starts[[first, last]])
        begin = int(self.listed[:low].sum(dtype=np.int64))
        end = begin + int(self.listed[low:high].sum(dtype=np.int64))
        part = {name: getattr(self, name)[low:high] for name in _PER_NODE}
        return Trees(self.size[first:last], self.group[first:last], categories=self.categories[begin:end], **part)


_PER_TREE = ("size", "group")
_PER_NODE = tuple(f.name for f in fields(Trees) if f.name not in (*_PER_TREE, "categories"))
_DTYPES = {
    **dict.fromkeys(("size", "group", "left", "right", "feature", "listed", "categories"), "int32"),
    **dict.fromkeys(("value", "gain", "cover", "weight"), "float32"),
    "default_left": "uint8",
}


def none() -> Trees:
    """No trees.

    >>> len(none())
    0
    """
    return Trees(**{f.name: np.zeros(0, _DTYPES[f.name]) for f in fields(Trees)})


def join(parts: Sequence[Trees]) -> Trees:
    """The trees of all parts, in their order.

    >>> stump = leaf(0, 0.5)
    >>> join([stump, stump]).value
    array([0.5, 0.5], dtype=float32)
    """
    parts = parts or [none()]
    return Trees(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Trees)})


def leaf(group: int, value: float, cover: float = 0.0) -> Trees:
    """A tree that is one leaf."""
    given = {"size": 1, "group": group, "left": LEAF, "right": LEAF, "value": value, "weight": value, "cover": cover}
    one = {name: np.full(1, given.get(name, 0), _DTYPES[name]) for name in (*_PER_TREE, *_PER_NODE)}
    return Trees(**one, categories=np.zeros(0, np.int32))


def fault(trees: Trees, features: int, outputs: int) -> str:
    """What is wrong with trees that came from elsewhere; "" if nothing is. Whoever walks them, or hands them to a
    library, asks this first.

    Args:
        features: columns that there are.
        outputs: outputs that a tree can be for.
    """
    shared = {name: getattr(trees, name) for name in (*_PER_TREE, *_PER_NODE)}
    wrong = ensembles.fault(shared, {name: (_DTYPES[name], ()) for name in shared}, _PER_TREE, features)
    if wrong:
        return wrong
    if ((trees.group < 0) | (trees.group >= outputs)).any():
        return f"a tree is for an output that does not exist; there are {outputs}"
    if (trees.listed < 0).any() or trees.listed.sum(dtype=np.int64) != len(trees.categories):
        return "the splits list another number of categories than there are"
    if (trees.listed[trees.left == LEAF] != 0).any():
        return "a leaf lists categories"
    if ((trees.categories < 0) | (trees.categories >= MOST_CATEGORIES)).any():
        return f"a category is not from 0 to {MOST_CATEGORIES - 1}"
    first = np.zeros(len(trees.categories), bool)
    first[segments(trees)[:-1][trees.listed > 0]] = True
    if (~first[1:] & (np.diff(trees.categories) <= 0)).any():
        return "the categories of a split do not ascend"
    return ""


def margins(trees: Trees, base: Array, X: Array) -> Array:
    """(n, outputs) float32 margins: the readable twin of what nodes compute, row for row the same bits.

    Args:
        base: (outputs,) float32, the margin without trees.
        X: (n, f), taken as float32; NaN is missing; of a split on categories their codes.
    """
    X = np.asarray(X, np.float32)
    found = np.tile(np.asarray(base, np.float32), (len(X), 1))
    lists = segments(trees)
    for group, low, high in zip(trees.group, trees.starts[:-1], trees.starts[1:], strict=True):
        found[:, group] += trees.value[low:high][_leaves(trees, int(low), int(high), lists, X)]
    return found


def goes_left(trees: Trees, node: int, segments: Array, X: Array) -> Array:
    """(n,) bool: which rows of (n, f) float32 ``X`` go left at a split, ``node`` counted over all trees.

    Args:
        segments: :func:`segments` of the trees.
    """
    values = X[:, trees.feature[node]]
    if trees.listed[node]:
        left = (values < 0) | ~np.isin(np.trunc(values), trees.categories[segments[node] : segments[node + 1]])
    else:
        left = values < trees.value[node]
    return np.asarray(np.where(np.isnan(values), trees.default_left[node] == 1, left))


def segments(trees: Trees) -> Array:
    """(nodes + 1,) int64: where the categories of each node begin, and where the last one's end."""
    return np.concatenate([[0], np.cumsum(trees.listed, dtype=np.int64)])


def _leaves(trees: Trees, low: int, high: int, lists: Array, X: Array) -> Array:
    """(n,) the leaf of one tree that each row comes to. Children stand after their parents, so one pass is enough."""
    place = np.zeros(len(X), np.int64)
    for node in np.flatnonzero(trees.left[low:high] != LEAF):
        here = np.flatnonzero(place == node)
        left = goes_left(trees, low + int(node), lists, X[here])
        place[here] = np.where(left, trees.left[low + node], trees.right[low + node])
    return place
