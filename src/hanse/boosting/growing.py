"""Growing the trees of one round, level by level, at the coordinator, from sums over all sites.

The trees of all outputs grow at once, and so do several of one output. Their nodes are numbered over all of them: the
roots first, then pairs of children in the order in which their parents were opened. A node is **opened** when its split
is sent to the sites, who then sum up one of its children (that with the smaller Σ of Hessians); the other is the
difference to the node itself, which is exact, since all are whole numbers.

Which splits a tree keeps is what its policy picks: level by level, or always the one of the largest gain, up to so many
leaves. To save exchanges, nodes are opened before it is sure that the policy comes to them: as many of the next ones as
there may be leaves. What it does not come to is no part of the tree. (All of it is exact, so that changes no tree.)
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

import numpy as np

from hanse.boosting.binning import Binning
from hanse.boosting.constraints import Constraints, Step
from hanse.boosting.splits import Best, Bounds, Penalty, best, bit_bytes
from hanse.boosting.trees import LEAF, Trees
from hanse.codec import ArrayOf
from hanse.messages import Array

_Whole = Annotated[Array, ArrayOf("int32", "nodes")]
_Real = Annotated[Array, ArrayOf("float64", "nodes")]
_Sum = Annotated[Array, ArrayOf("int64", "nodes")]


@dataclass(frozen=True, slots=True)
class Shape:
    """How far a tree grows, by XGBoost's names; 0: no limit."""

    max_depth: int = 6
    max_leaves: int = 0
    grow_policy: Literal["depthwise", "lossguide"] = "depthwise"


@dataclass(frozen=True, slots=True)
class Rules:
    """All that decides of sums how trees grow."""

    penalty: Penalty = Penalty()
    shape: Shape = Shape()
    constraints: Constraints = Constraints()
    learning_rate: float = 0.3
    parallel: int = 1  # trees of each output, which share the learning rate


@dataclass(frozen=True, slots=True)
class Splits:
    """TreeNodes that are opened, and how: the rows of ``node`` go to ``left`` or to the node after it.

    Args:
        bin: the last one of ``feature`` that goes left.
        default_left: 1 where missing values go left.
        right: bits of the categories that go right, where the column has some.
    """

    node: Annotated[Array, ArrayOf("int32", "splits")]
    left: Annotated[Array, ArrayOf("int32", "splits")]
    feature: Annotated[Array, ArrayOf("int32", "splits")]
    bin: Annotated[Array, ArrayOf("int32", "splits")]
    default_left: Annotated[Array, ArrayOf("uint8", "splits")]
    right: Annotated[Array, ArrayOf("uint8", "splits", None)]


@dataclass(frozen=True, slots=True)
class TreeNodes:
    """All nodes so far.

    Args:
        group, depth: the place of its tree among all that grow; edges to its root.
        left: its left child, the right one is the next; ``LEAF`` where it is not opened.
        gradient, hessian: sums of its rows, in units of their scales.
        weight: what it adds as a leaf, before shrinkage.
        lower, upper: bounds of the weights of its parts.
        gain: of its best split; 0 where it has none.
        feature, bin, default_left, left_gradient, left_hessian: that split (:class:`hanse.boosting.splits.Best`).
    """

    group: _Whole
    depth: _Whole
    left: _Whole
    gradient: _Sum
    hessian: _Sum
    weight: _Real
    lower: _Real
    upper: _Real
    gain: _Real
    feature: _Whole
    bin: _Whole
    default_left: Annotated[Array, ArrayOf("uint8", "nodes")]
    left_gradient: _Sum
    left_hessian: _Sum
    right: Annotated[Array, ArrayOf("uint8", "nodes", None)]


@dataclass(frozen=True, slots=True)
class Growing:
    """Trees that grow.

    Args:
        nodes: so far.
        built: the nodes whose histograms are asked for next; each but a root has a sibling that follows from it.
        opened: the nodes that the sites have not yet been told to split.
        held: the nodes whose ``histograms`` (held, bins, 2) are kept, for those of their children.
    """

    nodes: TreeNodes
    built: Annotated[Array, ArrayOf("int32", "built")]
    opened: Annotated[Array, ArrayOf("int32", "opened")]
    held: Annotated[Array, ArrayOf("int32", "held")]
    histograms: Annotated[Array, ArrayOf("int64", "held", None, 2)]

    @property
    def splits(self) -> Splits:
        """What the sites have to be told."""
        return self._splits(self.opened)

    @property
    def every_split(self) -> Splits:
        """What a site has to be told that has its rows at the roots."""
        return self._splits(np.flatnonzero(self.nodes.left != LEAF).astype(np.int32))

    def _splits(self, at: Array) -> Splits:
        nodes = self.nodes
        return Splits(at, nodes.left[at], nodes.feature[at], nodes.bin[at], nodes.default_left[at], nodes.right[at])

    @property
    def done(self) -> bool:
        """Whether nothing more has to be asked."""
        return not len(self.built)


def roots(trees: int, bins: Binning) -> Growing:
    """Before anything is known of the rows: as many trees as there are outputs, or a multiple."""
    nodes = _new(np.arange(trees), 0, np.zeros(trees), np.zeros(trees), bit_bytes(bins))
    none = np.zeros(0, np.int32)
    return Growing(nodes, np.arange(trees, dtype=np.int32), none, none, np.zeros((0, 0, 2), np.int64))


def inconsistent(growing: Growing, sums: Array, bins: Binning) -> str:
    """Why the histograms that were asked for cannot be those of any rows, or no parts of those above; "" if they can:
    all columns have the same sums, and no Hessian that is left is below 0."""
    totals = np.add.reduceat(sums, bins.starts[:-1], axis=1) if len(bins.count) else sums[:, :0]
    if (totals != totals[:, :1]).any():
        return "do not add up: those over the bins of one column are not those of another"
    nodes = growing.nodes
    if nodes.depth[growing.built].any():
        over = _above(growing)
        if any((growing.histograms[i, :, 1] < own[:, 1]).any() for i, own in zip(over, sums, strict=True)):
            return "are more than those above"
    return ""


def grown(growing: Growing, sums: Array, scales: Array, bins: Binning, rules: Rules, round: int) -> Growing:
    """With the histograms that were asked for.

    Args:
        sums: (built, bins, 2) int64.
        scales: (trees, 2) float64.
        round: for what is drawn.
    """
    nodes, let_go = growing.nodes, np.zeros(0, np.int32)
    if nodes.depth[growing.built].any():
        fresh, histograms = _with_siblings(growing, sums)
        let_go = _parents(nodes)[growing.built]
    else:
        fresh, histograms = growing.built, sums
        total = sums[:, : bins.starts[1]].sum(axis=1) if len(bins.count) else np.zeros((len(sums), 2), np.int64)
        weight = rules.penalty.weight(total[:, 0] * scales[:, 0], total[:, 1] * scales[:, 1])
        nodes = replace(nodes, gradient=total[:, 0], hessian=total[:, 1], weight=weight)
    allowed, bounds = _limited(nodes, fresh, len(bins.count), rules.constraints, round)
    nodes = _known(nodes, fresh, best(histograms, scales[nodes.group[fresh]], bins, rules.penalty, allowed, bounds))
    useful = nodes.gain[fresh] > 0
    nodes, opened, built = _opened(nodes, scales, rules)
    needed = nodes.left == LEAF
    needed[_parents(nodes)[built]] = True
    own = useful & needed[fresh]
    needed[let_go] = False
    kept = needed[growing.held]
    held = np.concatenate([growing.held[kept], fresh[own]]).astype(np.int32)
    return Growing(nodes, built, opened, held, _those(growing.histograms, kept, histograms, own))


def finished(growing: Growing, scales: Array, bins: Binning, rules: Rules) -> tuple[Trees, Array]:
    """The trees, and (nodes,) int32 the place in them of the leaf of a row whose last node is this one of all that were
    opened."""
    nodes = growing.nodes
    taken = np.zeros(len(nodes.group), bool)
    for output in range(len(scales)):
        taken[_policy(nodes, output, rules.shape)[0]] = True
    weight = nodes.weight.astype(np.float32)
    value = weight * np.float32(rules.learning_rate / rules.parallel)
    inside = np.zeros(len(taken), bool)  # part of the tree
    inside[nodes.depth == 0] = True
    home = np.arange(len(taken))
    for node in np.flatnonzero(nodes.left != LEAF):  # parents come before their children
        for child in (int(nodes.left[node]), int(nodes.left[node]) + 1):
            inside[child] = inside[node] and taken[node]
            if not inside[child]:
                home[child] = home[node]
    order = np.flatnonzero(inside)
    order = order[np.argsort(nodes.group[order], kind="stable")]
    group = nodes.group[order]
    size = np.bincount(group, minlength=len(scales)).astype(np.int32)
    place = np.zeros(len(taken), np.int32)
    place[order] = np.arange(len(order))
    local = np.zeros(len(taken) + 1, np.int32)
    local[order] = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
    split = taken[order]
    left = np.where(split, local[nodes.left[order]], LEAF).astype(np.int32)
    grouped = split & (bins.categories[nodes.feature[order]] > 0) if len(bins.count) else split
    threshold = np.where(grouped, 0, bins.thresholds(nodes.feature[order], nodes.bin[order])) if split.any() else value
    listed = np.unpackbits(nodes.right[order], axis=1).astype(bool) & grouped[:, None]
    trees = Trees(
        size=size,
        group=np.arange(len(scales), dtype=np.int32) // np.int32(rules.parallel),
        left=left,
        right=np.where(split, left + 1, LEAF).astype(np.int32),
        feature=np.where(split, nodes.feature[order], 0).astype(np.int32),
        value=np.where(split, threshold, value[order]).astype(np.float32),
        default_left=np.where(split, nodes.default_left[order], 0).astype(np.uint8),
        gain=np.where(split, nodes.gain[order], 0).astype(np.float32),
        cover=(nodes.hessian[order] * scales[group, 1]).astype(np.float32),
        weight=weight[order],
        listed=listed.sum(axis=1).astype(np.int32),
        categories=np.nonzero(listed)[1].astype(np.int32),
    )
    return trees, place[home]


# ---------------------------------------------------------------- parts


def _new(group: Array, depth: Array | int, gradient: Array, hessian: Array, wide: int) -> TreeNodes:
    m = len(group)
    whole, sums = np.zeros(m, np.int32), np.zeros(m, np.int64)
    return TreeNodes(
        np.asarray(group, np.int32),
        np.zeros(m, np.int32) + np.asarray(depth, np.int32),
        np.full(m, LEAF, np.int32),
        np.asarray(gradient, np.int64),
        np.asarray(hessian, np.int64),
        np.zeros(m),
        np.full(m, -np.inf),
        np.full(m, np.inf),
        np.zeros(m),
        whole,
        whole,
        np.zeros(m, np.uint8),
        sums,
        sums,
        np.zeros((m, wide), np.uint8),
    )


def _parents(nodes: TreeNodes) -> Array:
    """(nodes,) int32 the parent of each node; of a root -1."""
    found = np.full(len(nodes.group), -1, np.int32)
    opened = np.flatnonzero(nodes.left != LEAF)
    found[nodes.left[opened]] = found[nodes.left[opened] + 1] = opened
    return found


def _above(growing: Growing) -> list[int]:
    """Where the histogram of the parent of each node lies that is asked for."""
    place = {int(node): i for i, node in enumerate(growing.held)}
    return [place[int(parent)] for parent in _parents(growing.nodes)[growing.built]]


def _with_siblings(growing: Growing, sums: Array) -> tuple[Array, Array]:
    """The nodes that were asked for and their siblings in their order, and the histograms of both; each of these is
    written once, as they are megabytes."""
    siblings = _siblings(growing.nodes, growing.built)
    fresh = np.sort(np.concatenate([growing.built, siblings])).astype(np.int32)
    found = np.empty((len(fresh), *sums.shape[1:]), np.int64)
    for i, at in enumerate(np.searchsorted(fresh, growing.built)):
        found[at] = sums[i]
    for i, (over, at) in enumerate(zip(_above(growing), np.searchsorted(fresh, siblings), strict=True)):
        np.subtract(growing.histograms[over], sums[i], out=found[at])
    return fresh, found


def _those(held: Array, kept: Array, histograms: Array, own: Array) -> Array:
    """The histograms that are kept of those before and of those that are new; copied only where some are left out."""
    if not kept.any():
        return histograms if own.all() else histograms[own]
    return np.concatenate([held[kept], histograms[own]])


def _siblings(nodes: TreeNodes, children: Array) -> Array:
    left = nodes.left[_parents(nodes)[children]]
    return np.where(children == left, left + 1, left)


def _known(nodes: TreeNodes, fresh: Array, found: Best) -> TreeNodes:
    """With the best splits of the ``fresh`` nodes."""
    values = {
        "gain": found.gain,
        "feature": found.feature,
        "bin": found.bin,
        "default_left": found.default_left,
        "left_gradient": found.gradient,
        "left_hessian": found.hessian,
        "right": found.right,
    }
    changed = {}
    for name, own in values.items():
        changed[name] = getattr(nodes, name).copy()
        changed[name][fresh] = own
    return replace(nodes, **changed)


def _opened(nodes: TreeNodes, scales: Array, rules: Rules) -> tuple[TreeNodes, Array, Array]:
    """With the nodes opened that the policy may come to next; these, and which of their children are summed up."""
    opened: list[int] = []
    built: list[int] = []
    shape = rules.shape
    while not built:
        wanted = [node for group in range(nodes.group.max() + 1) for node in _policy(nodes, group, shape)[1]]
        if not wanted:
            break
        at = np.array(sorted(wanted), np.int64)
        nodes = _with_children(nodes, at, scales, rules)
        opened += at.tolist()
        if not shape.max_depth:
            deeper = at
        else:
            deeper = at[nodes.depth[at] + 1 < shape.max_depth]
        left = nodes.left[deeper]
        smaller = np.where(nodes.hessian[left] <= nodes.hessian[left + 1], left, left + 1)
        built += smaller.tolist()
    return nodes, np.array(opened, np.int32), np.array(built, np.int32)


def _limited(
    nodes: TreeNodes, fresh: Array, columns: int, constraints: Constraints, round: int
) -> tuple[Array | None, Bounds | None]:
    """Which columns each node may be split on, and how far its parts may go; None where there is no limit."""
    allowed, bounds = None, None
    if not constraints.free:
        ways = _ways(nodes)
        some = (constraints.allowed(columns, round, int(nodes.group[node]), ways[int(node)]) for node in fresh)
        allowed = np.stack(list(some))
    if constraints.monotone is not None:
        own = (values[fresh][:, None] for values in (nodes.weight, nodes.lower, nodes.upper))
        bounds = Bounds(constraints.monotone, *own)
    return allowed, bounds


def _ways(nodes: TreeNodes) -> dict[int, list[Step]]:
    """The way from its root to each node."""
    found: dict[int, list[Step]] = {int(root): [] for root in np.flatnonzero(nodes.depth == 0)}
    for node in np.flatnonzero(nodes.left != LEAF).tolist():  # parents come before their children
        for side in (0, 1):
            found[int(nodes.left[node]) + side] = [*found[node], (int(nodes.feature[node]), side)]
    return found


def _with_children(nodes: TreeNodes, at: Array, scales: Array, rules: Rules) -> TreeNodes:
    left = np.stack([nodes.left_gradient[at], nodes.left_hessian[at]])
    right = np.stack([nodes.gradient[at], nodes.hessian[at]]) - left
    gradient, hessian = np.stack([left, right], axis=2).reshape(2, -1)  # left, right, left, right, ...
    children = _new(
        np.repeat(nodes.group[at], 2), np.repeat(nodes.depth[at] + 1, 2), gradient, hessian, nodes.right.shape[1]
    )
    lower, upper = np.repeat(nodes.lower[at], 2), np.repeat(nodes.upper[at], 2)
    worth = scales[children.group]
    weight = np.clip(rules.penalty.weight(gradient * worth[:, 0], hessian * worth[:, 1]), lower, upper)
    if rules.constraints.monotone is not None:
        sign, middle = rules.constraints.monotone[nodes.feature[at]], (weight[::2] + weight[1::2]) / 2
        sign = np.where(sign * (weight[1::2] - weight[::2]) < 0, -sign, sign)  # missing from given: as they lie
        upper[::2], lower[1::2] = (np.where(sign > 0, middle, own) for own in (upper[::2], lower[1::2]))
        lower[::2], upper[1::2] = (np.where(sign < 0, middle, own) for own in (lower[::2], upper[1::2]))
    children = replace(children, weight=weight, lower=lower, upper=upper)
    place = nodes.left.copy()
    place[at] = len(nodes.group) + 2 * np.arange(len(at))
    nodes = replace(nodes, left=place)
    joined = {f.name: np.concatenate([getattr(nodes, f.name), getattr(children, f.name)]) for f in fields(TreeNodes)}
    return TreeNodes(**joined)


def _policy(nodes: TreeNodes, group: int, shape: Shape) -> tuple[list[int], list[int]]:
    """The splits that the tree of an output takes, in their order, as far as it is known; and the nodes that have to be
    opened to know more, of which as many as it may take."""
    first_best = shape.grow_policy == "lossguide"
    if not first_best and not shape.max_leaves:  # all that there are, and they stand level by level
        useful, opened = (nodes.group == group) & (nodes.gain > 0), nodes.left != LEAF
        return np.flatnonzero(useful & opened).tolist(), np.flatnonzero(useful & ~opened).tolist()
    queue: list[tuple[float, int]] = []
    taken: list[int] = []
    unknown: list[int] = []

    def add(node: int) -> None:
        if nodes.gain[node] > 0:
            heapq.heappush(queue, (-float(nodes.gain[node]) if first_best else float(nodes.depth[node]), node))

    add(group)  # the number of its root
    while queue and (not shape.max_leaves or len(taken) + len(unknown) + 1 < shape.max_leaves):
        _, node = heapq.heappop(queue)
        if nodes.left[node] == LEAF:
            unknown.append(node)
            continue
        taken.append(node)
        add(int(nodes.left[node]))
        add(int(nodes.left[node]) + 1)
    return taken, unknown
