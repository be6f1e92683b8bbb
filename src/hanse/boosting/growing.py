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
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np

from hanse.boosting.binning import Binning
from hanse.boosting.constraints import Constraints, Step
from hanse.boosting.packed import Sums
from hanse.boosting.splits import Best, Bounds, Impossible, Penalty, best, best_below, bit_bytes, loops
from hanse.boosting.trees import LEAF, Trees
from hanse.codec import ArrayOf
from hanse.messages import Array

_WHOLE = _GROUP, _DEPTH, _LEFT, _ABOVE, _GRADIENT, _HESSIAN, _FEATURE, _BIN, _DEFAULT_LEFT, *_ = range(11)
_REAL = _WEIGHT, _LOWER, _UPPER, _GAIN = range(4)
_SUMS, _LEFT_SUMS = slice(_GRADIENT, _HESSIAN + 1), slice(_DEFAULT_LEFT + 1, None)


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
    """All nodes so far, in two tables: a level is a few calls then. What a row of them says has a name below.

    Args:
        whole: whole numbers of each node: also the sums of its rows, its best split and the sums of the left part
            (:class:`hanse.boosting.splits.Best`), in units of their scales.
        real: others; also bounds of the weights of its parts.
        right: bits of the categories that go right at its best split.
    """

    whole: Annotated[Array, ArrayOf("int64", 11, "nodes")]
    real: Annotated[Array, ArrayOf("float64", 4, "nodes")]
    right: Annotated[Array, ArrayOf("uint8", "nodes", None)]

    @property
    def group(self) -> Array:
        """The place of its tree among all that grow."""
        return np.asarray(self.whole[_GROUP])

    @property
    def depth(self) -> Array:
        """Edges to its root."""
        return np.asarray(self.whole[_DEPTH])

    @property
    def left(self) -> Array:
        """Its left child, the right one is the next; ``LEAF`` where it is not opened."""
        return np.asarray(self.whole[_LEFT])

    @property
    def above(self) -> Array:
        """Its parent; of a root -1."""
        return np.asarray(self.whole[_ABOVE])

    @property
    def hessian(self) -> Array:
        """The sum of the Hessians of its rows."""
        return np.asarray(self.whole[_HESSIAN])

    @property
    def feature(self) -> Array:
        """The column of its best split."""
        return np.asarray(self.whole[_FEATURE])

    @property
    def weight(self) -> Array:
        """What it adds as a leaf, before shrinkage."""
        return np.asarray(self.real[_WEIGHT])

    @property
    def gain(self) -> Array:
        """Of its best split; 0 where it has none."""
        return np.asarray(self.real[_GAIN])


@dataclass(frozen=True)  # without slots, as its splits are kept with it
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

    @cached_property
    def splits(self) -> Splits:
        """What the sites have to be told."""
        return self._splits(self.opened)

    @property
    def every_split(self) -> Splits:
        """What a site has to be told that has its rows at the roots."""
        return self._splits(np.flatnonzero(self.nodes.left != LEAF).astype(np.int32))

    def _splits(self, at: Array) -> Splits:
        of = self.nodes.whole.take(at, axis=1)
        left, feature, bin = of[[_LEFT, _FEATURE, _BIN]].astype(np.int32)
        return Splits(at, left, feature, bin, of[_DEFAULT_LEFT].astype(np.uint8), self.nodes.right[at])

    @property
    def done(self) -> bool:
        """Whether nothing more has to be asked."""
        return not len(self.built)


def roots(trees: int, bins: Binning) -> Growing:
    """Before anything is known of the rows: as many trees as there are outputs, or a multiple."""
    nodes = _new(trees, bit_bytes(bins))
    nodes.whole[_GROUP], nodes.whole[_ABOVE] = np.arange(trees), -1
    none = np.zeros(0, np.int32)
    return Growing(nodes, np.arange(trees, dtype=np.int32), none, none, np.zeros((0, 0, 2), np.int64))


def grown(growing: Growing, sums: Sums, scales: Array, bins: Binning, rules: Rules, round: int) -> Growing:
    """With the histograms that were asked for.

    Args:
        sums: those of the nodes that are ``built``.
        scales: (trees, 2) float64.
        round: for what is drawn.

    Raises:
        Impossible: they cannot be sums of rows, or not of some of those above.
    """
    nodes, built, penalty = growing.nodes, growing.built.astype(np.int64), rules.penalty
    begins = built[0] < len(scales)  # with the roots; later each has a sibling, which stands beside it
    fresh, places, let_go = built, np.arange(len(built)), built[:0]
    if not begins:
        side = (built - len(scales)) & 1
        fresh, places = np.repeat(built - side, 2), 2 * places + side
        fresh[1::2] += 1
        let_go = nodes.above[built]
    above = growing.held.searchsorted(let_go)
    deepest = rules.shape.max_depth
    parents = nodes.depth[fresh] < deepest - 1 if deepest else np.ones(len(fresh), bool)  # that they may become
    worth, there = scales[nodes.group[fresh]], parents  # whose histograms are there when the splits are known
    quick = rules.constraints.monotone is None and loops(len(fresh), bins, penalty)
    if quick and len(bins.count) and not bins.categories.any():
        allowed, _ = _limited(nodes, fresh, len(bins.count), rules.constraints, round)
        of = growing.histograms, above, places, parents
        found, histograms, totals = best_below(sums, *of, worth, bins, penalty, allowed)
        nodes = _known(nodes, fresh, found, totals if begins else None, worth, penalty)
    else:
        histograms, totals = _whole(sums.unpacked(pairs=quick), growing.histograms, above, places, len(fresh), bins)
        if begins:
            nodes = _known(nodes, fresh, Best.none(len(fresh), bins), totals, worth, penalty)
        allowed, bounds = _limited(nodes, fresh, len(bins.count), rules.constraints, round)
        found = best(histograms, worth, bins, penalty, allowed, bounds)
        nodes = _known(nodes, fresh, found, None, worth, penalty)
        there = np.ones(len(fresh), bool)
    nodes, opened, built = _opened(nodes, scales, rules)
    needed = nodes.left == LEAF
    needed[nodes.above[built]] = True
    own = parents & needed[fresh] & (found.gain > 0)
    held, histograms = fresh[own], _some(histograms, own[there])
    if len(let_go) < len(growing.held):  # of those before, more than were needed for these
        needed[let_go] = False
        kept = needed[growing.held]
        held = np.concatenate([growing.held[kept], held])
        histograms = np.concatenate([growing.histograms[kept], histograms])
    return Growing(nodes, built, opened, held.astype(np.int32), histograms)


def finished(growing: Growing, scales: Array, bins: Binning, rules: Rules) -> tuple[Trees, Array]:
    """The trees, and (nodes,) int32 the place in them of the leaf of a row whose last node is this one of all that were
    opened."""
    nodes = growing.nodes
    taken = np.zeros(len(nodes.group), bool)
    taken[_policy(nodes, len(scales), rules.shape)[0]] = True
    weight = nodes.weight.astype(np.float32)
    value = weight * np.float32(rules.learning_rate / rules.parallel)
    inside = np.ones(len(taken), bool)  # part of the tree
    home, left = np.arange(len(taken)), nodes.left
    if not taken[left != LEAF].all():  # some were opened that the policy did not come to
        for node in np.flatnonzero(left != LEAF).tolist():  # parents come before their children
            children = slice(left[node], left[node] + 2)
            inside[children] = inside[node] and taken[node]
            if not inside[children.start]:
                home[children] = home[node]
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
    feature, bin, default_left = nodes.whole[_FEATURE : _DEFAULT_LEFT + 1, order]
    threshold = np.where(grouped, 0, bins.thresholds(feature, bin)) if split.any() else value
    listed = np.unpackbits(nodes.right[order], axis=1).astype(bool) & grouped[:, None]
    trees = Trees(
        size=size,
        group=np.arange(len(scales), dtype=np.int32) // np.int32(rules.parallel),
        left=left,
        right=np.where(split, left + 1, LEAF).astype(np.int32),
        feature=np.where(split, feature, 0).astype(np.int32),
        value=np.where(split, threshold, value[order]).astype(np.float32),
        default_left=np.where(split, default_left, 0).astype(np.uint8),
        gain=np.where(split, nodes.gain[order], 0).astype(np.float32),
        cover=(nodes.hessian[order] * scales[group, 1]).astype(np.float32),
        weight=weight[order],
        listed=listed.sum(axis=1).astype(np.int32),
        categories=np.nonzero(listed)[1].astype(np.int32),
    )
    return trees, place[home]


# ---------------------------------------------------------------- parts


def _new(count: int, wide: int) -> TreeNodes:
    """So many nodes that have no split."""
    whole, real = np.zeros((len(_WHOLE), count), np.int64), np.zeros((len(_REAL), count))
    nodes = TreeNodes(whole, real, np.zeros((count, wide), np.uint8))
    nodes.whole[_LEFT], nodes.real[_LOWER], nodes.real[_UPPER] = LEAF, -np.inf, np.inf
    return nodes


def _whole(sums: Array, held: Array, above: Array, places: Array, count: int, bins: Binning) -> tuple[Array, Array]:
    """The histograms of all ``count`` nodes of which every other one's ``sums`` are known, and the sums of all rows of
    the latter; as of :func:`hanse.boosting.splits.best_below`."""
    if not len(bins.count):
        return np.zeros((count, 0, 2), np.int64), np.zeros((len(sums), 2), np.int64)
    totals = np.add.reduceat(sums, bins.starts[:-1], axis=1)
    if (totals != totals[:, :1]).any():
        raise Impossible("do not add up: those over the bins of one column are not those of another")
    if not len(above):
        return sums, totals[:, 0]
    found = np.empty_like(sums, shape=(count, *sums.shape[1:]))  # which lie as they do
    found[places] = sums
    siblings = held[above]
    siblings -= sums
    if siblings[:, :, 1].min() < 0:
        raise Impossible("are more than those above")
    found[places ^ 1] = siblings
    return found, totals[:, 0]


def _some(histograms: Array, which: Array) -> Array:
    """Those of some nodes; copied only where others are left out."""
    return histograms if which.all() else histograms[which]


def _known(
    nodes: TreeNodes, fresh: Array, found: Best, totals: Array | None, worth: Array, penalty: Penalty
) -> TreeNodes:
    """With the best splits of the ``fresh`` nodes; of roots with their sums, too: others have these from above."""
    whole, real, right = nodes.whole.copy(), nodes.real.copy(), nodes.right.copy()
    whole[_FEATURE:, fresh], real[_GAIN, fresh], right[fresh] = found.whole, found.gain, found.right
    if totals is not None:
        whole[_SUMS, fresh] = totals.T
        real[_WEIGHT, fresh] = penalty.weight(*(totals * worth).T)
    return TreeNodes(whole, real, right)


def _opened(nodes: TreeNodes, scales: Array, rules: Rules) -> tuple[TreeNodes, Array, Array]:
    """With the nodes opened that the policy may come to next; these, and which of their children are summed up."""
    opened = built = np.zeros(0, np.int64)
    deepest = rules.shape.max_depth
    while not len(built):
        at = _policy(nodes, len(scales), rules.shape)[1]
        if not len(at):
            break
        nodes = _with_children(nodes, at, scales, rules)
        opened = np.concatenate([opened, at]) if len(opened) else at
        deeper = at[nodes.depth[at] + 1 < deepest] if deepest else at
        left = nodes.left[deeper]
        built = left + (nodes.hessian[left] > nodes.hessian[left + 1])  # the smaller one
    return nodes, opened.astype(np.int32), built.astype(np.int32)


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
        weight, lower, upper, _ = nodes.real[:, fresh, None]
        bounds = Bounds(constraints.monotone, weight, lower, upper)
    return allowed, bounds


def _ways(nodes: TreeNodes) -> dict[int, list[Step]]:
    """The way from its root to each node."""
    found: dict[int, list[Step]] = {int(root): [] for root in np.flatnonzero(nodes.depth == 0)}
    for node in np.flatnonzero(nodes.left != LEAF).tolist():  # parents come before their children
        for side in (0, 1):
            found[int(nodes.left[node]) + side] = [*found[node], (int(nodes.feature[node]), side)]
    return found


def _with_children(nodes: TreeNodes, at: Array, scales: Array, rules: Rules) -> TreeNodes:
    count, trees, of = len(nodes.left), len(scales), nodes.whole[:, at]
    children = _new(2 * len(at), nodes.right.shape[1])
    whole, real = children.whole, children.real
    whole[_GROUP], whole[_DEPTH], whole[_ABOVE] = np.repeat([of[_GROUP], of[_DEPTH] + 1, at], 2, axis=1)
    sums = whole[_SUMS]
    sums[:, ::2] = of[_LEFT_SUMS]
    sums[:, 1::2] = of[_SUMS] - of[_LEFT_SUMS]
    worth = scales[whole[_GROUP]] if trees > 1 else scales
    real[_WEIGHT] = rules.penalty.weight(sums[0] * worth[:, 0], sums[1] * worth[:, 1])
    if (monotone := rules.constraints.monotone) is not None:
        lower, upper = real[_LOWER : _UPPER + 1] = np.repeat(nodes.real[_LOWER : _UPPER + 1, at], 2, axis=1)
        weight = real[_WEIGHT] = np.clip(real[_WEIGHT], lower, upper)
        sign, middle = monotone[of[_FEATURE]], (weight[::2] + weight[1::2]) / 2
        sign = np.where(sign * (weight[1::2] - weight[::2]) < 0, -sign, sign)  # missing from given: as they lie
        upper[::2], lower[1::2] = (np.where(sign > 0, middle, own) for own in (upper[::2], lower[1::2]))
        lower[::2], upper[1::2] = (np.where(sign < 0, middle, own) for own in (lower[::2], upper[1::2]))
        real[_LOWER], real[_UPPER] = lower, upper
    joined = np.concatenate([nodes.whole, whole], axis=1)
    joined[_LEFT, at] = np.arange(count, count + 2 * len(at), 2)
    return TreeNodes(
        joined,
        np.concatenate([nodes.real, real], axis=1),
        np.concatenate([nodes.right, children.right]),
    )


def _policy(nodes: TreeNodes, trees: int, shape: Shape) -> tuple[Array, Array]:
    """The splits that trees take, as far as they are known; and the nodes that have to be opened to know more, of which
    as many as they may take. Both rise."""
    if shape.grow_policy == "depthwise" and not shape.max_leaves:  # all that there are
        useful, ends = nodes.gain > 0, nodes.left == LEAF
        return (useful > ends).nonzero()[0], (useful & ends).nonzero()[0]
    taken, unknown = list[int](), list[int]()
    for tree in range(trees):
        for all_of, own in zip((taken, unknown), _chosen(nodes, tree, shape), strict=True):
            all_of.extend(own)
    return np.array(sorted(taken), np.int64), np.array(sorted(unknown), np.int64)


def _chosen(nodes: TreeNodes, root: int, shape: Shape) -> tuple[list[int], list[int]]:
    """The same of one tree, in the order in which it takes them."""
    first_best = shape.grow_policy == "lossguide"
    queue: list[tuple[float, int]] = []
    taken: list[int] = []
    unknown: list[int] = []

    def add(node: int) -> None:
        if nodes.gain[node] > 0:
            heapq.heappush(queue, (-float(nodes.gain[node]) if first_best else float(nodes.depth[node]), node))

    add(root)
    while queue and (not shape.max_leaves or len(taken) + len(unknown) + 1 < shape.max_leaves):
        _, node = heapq.heappop(queue)
        if nodes.left[node] == LEAF:
            unknown.append(node)
            continue
        taken.append(node)
        add(int(nodes.left[node]))
        add(int(nodes.left[node]) + 1)
    return taken, unknown
