"""Many trees as a few plain arrays, and the proof that arrays from elsewhere are trees.

``size`` (T,) gives each tree's number of nodes; all other arrays hold the nodes of the first tree,
then of the second, and so on. ``left`` and ``right`` are positions within a tree (-1: a leaf), a
child always stands after its parent, and node 0 is the root.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse.errors import WireError
from hanse.messages import Array

Trees = Mapping[str, Array]
MAX_NODES = 50_000_000
MAX_DEPTH = 1000  # libraries walk a tree by recursion, in native code: a longer path ends the process


def join(parts: Sequence[Trees]) -> dict[str, Array]:
    """The trees of all parts, in their order. At least one part."""
    return {name: np.concatenate([np.asarray(p[name]) for p in parts]) for name in parts[0]}


def first(trees: Trees, most: int, per_tree: Sequence[str]) -> Trees:
    """The first trees, ``most`` of them at most; ``per_tree`` as of :func:`fault`."""
    count = min(most, len(trees["size"]))
    nodes = int(starts(trees)[count])
    return {name: array[: count if name in per_tree else nodes] for name, array in trees.items()}


def starts(trees: Trees) -> Array:
    """(T + 1,) where each tree's nodes begin, and where the last one's end."""
    return np.concatenate([[0], np.cumsum(trees["size"], dtype=np.int64)])


def fault(
    trees: Trees, expected: Mapping[str, tuple[str, tuple[int, ...]]], per_tree: tuple[str, ...], features: int
) -> str:
    """What is wrong with arrays that should be trees; "" if nothing is.

    Args:
        expected: array name to dtype and further dimensions.
        per_tree: the names with one entry a tree; all others have one a node.
        features: columns of the design matrix.
    """
    if set(trees) != set(expected):
        return f"expected the arrays {', '.join(sorted(expected))}"
    for name, (dtype, shape) in expected.items():
        array = trees[name]
        if array.dtype != np.dtype(dtype) or array.ndim != 1 + len(shape) or array.shape[1:] != shape:
            return f"array {name!r} should be {dtype} of shape (n, {', '.join(map(str, shape))})"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"array {name!r} holds NaN or infinite numbers"
    size, left, right = (np.asarray(trees[n], np.int64) for n in ("size", "left", "right"))
    if (size < 1).any() or size.sum() > MAX_NODES:
        return "each tree needs at least one node, and all together at most " + str(MAX_NODES)
    nodes = int(size.sum())
    if any(len(trees[n]) != (len(size) if n in per_tree else nodes) for n in expected):
        return "the arrays do not have one entry a node"
    inner = left != -1
    if ((right != -1) != inner).any():
        return "a node has one child"
    local = np.arange(nodes) - np.repeat(starts(trees)[:-1], size)
    room = np.repeat(size, size)
    for child in (left, right):
        if ((child <= local) | (child >= room))[inner].any():
            return "a child does not stand after its parent in the same tree"
    offset = np.arange(nodes) - local
    parents = np.bincount(np.concatenate([(offset + left)[inner], (offset + right)[inner]]), minlength=nodes)
    if (parents != (local > 0)).any():
        return "a node does not have exactly one parent"
    feature = trees["feature"]
    if ((feature < np.where(inner, 0, -1)) | (feature >= features)).any():
        return "a split is on a feature that does not exist"
    level = starts(trees)[:-1]
    for _ in range(MAX_DEPTH + 1):
        level = level[inner[level]]
        if not len(level):
            return ""
        level = np.concatenate([(offset + left)[level], (offset + right)[level]])
    return f"a tree is deeper than {MAX_DEPTH}"


def too_many(trees: Trees, most: int, rows: float) -> str:
    """What is too much of trees that were grown on ``rows`` rows; "" if nothing is. It looks at lengths
    and at ``size`` only, so it is to be asked before :func:`fault`, which needs memory for each node.

    A leaf holds a row at least, so a tree of n rows has at most n leaves, and 2n - 1 nodes.
    """
    count = int(np.size(trees.get("size", ())))
    if count > most:
        return f"{count} trees, but at most {most} were asked for"
    largest = max(1, 2 * int(rows) - 1)
    nodes = max((len(a) if a.ndim else 1 for a in map(np.asanyarray, trees.values())), default=0)
    if nodes > count * largest or (np.asarray(trees.get("size", ())) > largest).any():
        return f"a tree of {int(rows)} rows has at most {largest} nodes"
    return ""


def must_be(wrong: str) -> None:
    """Raises ``WireError`` for what :func:`fault` found: whoever hands trees to a library proves them
    first, wherever they came from (a coordinator, a file)."""
    if wrong:
        raise WireError(f"the trees of the model are not usable: {wrong}")


def depth(left: Array, right: Array) -> int:
    """Edges from the root to the deepest leaf of one tree."""
    level, found = np.zeros(1, np.int64), 0
    while True:
        inner = level[left[level] != -1]
        if not len(inner):
            return found
        level, found = np.concatenate([left[inner], right[inner]]), found + 1


def share(values: Array) -> Array:
    """Importances that sum to 1; zeros where nothing was split."""
    total = values.sum()
    return np.asarray(values / total if total > 0 else np.zeros_like(values), np.float64)
