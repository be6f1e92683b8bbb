"""The best split of each node, from the sums of the gradients and Hessians of its rows in each bin.

With G and H those of a node (of its left part: G_L, H_L), the gain of a split is::

    score(G_L, H_L) + score(G - G_L, H - H_L) - score(G, H)
    score(G, H) = soft(G)² / (H + λ)      soft(G) = sign(G) max(|G| - α, 0)

and what a leaf adds is w = -soft(G) / (H + λ), before shrinkage. The sums are whole numbers in units of their scales,
so they are exact; what is computed of them is float64, by one program at the coordinator. Of equal gains the lowest
column counts, then its lowest bin, then missing values to the right.

References: Chen and Guestrin 2016, "XGBoost: A Scalable Tree Boosting System", equations 5 to 7 and algorithm 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hanse.boosting.binning import Binning
from hanse.boosting.categories import groupings
from hanse.boosting.compiled import at_first, at_once, worthwhile
from hanse.boosting.histograms import best_by_numbers, best_of_pairs
from hanse.boosting.packed import Sums
from hanse.messages import Array

LEAST_GAIN = 1e-6  # XGBoost's kRtEps
_BLOCK = 1 << 16  # bins that are looked at together, beside others: the sites wait meanwhile
_QUICK_BLOCK = 1 << 19  # the same of the compiled loop: 1.3 ms; fewer are not worth a second thread
_IMPOSSIBLE = {
    1: "do not add up: those over the bins of one column are not those of another",
    2: "are more than those above",
}
_EXACT = 1 << 52  # float64 holds the differences of whole numbers up to it
# of left sums (2, m, k), which of these may be, and the signs of their columns
Gain = Callable[[Array, Array | None, Array | None], Array]


@dataclass(frozen=True, slots=True)
class Penalty:
    """How far leaves may go, by XGBoost's names.

    Args:
        reg_lambda, reg_alpha: λ and α.
        gamma: least gain of a split.
        min_child_weight: least H of a leaf.
        max_delta_step: largest |w|; 0: no limit.
        max_cat_to_onehot: a column of fewer categories is split into one and all others.
        max_cat_threshold: most categories of the smaller group of another.
    """

    reg_lambda: float = 1.0
    reg_alpha: float = 0.0
    gamma: float = 0.0
    min_child_weight: float = 1.0
    max_delta_step: float = 0.0
    max_cat_to_onehot: int = 4
    max_cat_threshold: int = 64

    def weight(self, gradient: Array, hessian: Array) -> Array:
        """w, float64. 0 where H is less than a leaf needs."""
        fine = (hessian > 0) & (hessian >= self.min_child_weight)
        soft = np.sign(gradient) * np.maximum(np.abs(gradient) - self.reg_alpha, 0.0)
        found = np.where(fine, -soft / np.where(fine, hessian + self.reg_lambda, 1.0), 0.0)
        return np.clip(found, -self.max_delta_step, self.max_delta_step) if self.max_delta_step else found

    def worth(self, gradient: Array, hessian: Array, weight: Array) -> Array:
        """Twice what a leaf of this weight takes from the loss, float64; without α |w|, as XGBoost has it."""
        return -(2 * gradient * weight + (hessian + self.reg_lambda) * weight * weight)

    def score(self, gradient: Array, hessian: Array) -> Array:
        """Twice what the leaf of these sums takes from the loss, float64."""
        if self.max_delta_step:
            return self.worth(gradient, hessian, self.weight(gradient, hessian))
        soft = np.maximum(np.abs(gradient) - self.reg_alpha, 0.0) if self.reg_alpha else gradient
        found, whole = soft * soft, hessian + self.reg_lambda
        with np.errstate(divide="ignore", invalid="ignore"):
            found /= whole
        if not whole.min(initial=1.0) > 0:  # seldom: it would be one more look at all of them
            found[~(whole > 0)] = 0.0
        return np.asarray(found)


class Impossible(ValueError):
    """Histograms cannot be those of any rows, or no parts of those above; says why."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best split of each of m nodes; ``gain`` 0 where there is none.

    Args:
        whole: (5, m) int64, of which each row has a name below.
        right: (m, bytes) uint8, bits of the categories that go right.
    """

    gain: Array
    whole: Array
    right: Array

    @staticmethod
    def none(nodes: int, bins: Binning) -> Best:
        """Of so many nodes there is none."""
        return Best(np.zeros(nodes), np.zeros((5, nodes), np.int64), np.zeros((nodes, bit_bytes(bins)), np.uint8))

    @property
    def feature(self) -> Array:
        """The column."""
        return np.asarray(self.whole[0])

    @property
    def bin(self) -> Array:
        """The last one that goes left; of a column of categories any number."""
        return np.asarray(self.whole[1])

    @property
    def default_left(self) -> Array:
        """1 where missing values go left."""
        return np.asarray(self.whole[2])

    @property
    def gradient(self) -> Array:
        """Sum of the left part, in units of its scale."""
        return np.asarray(self.whole[3])

    @property
    def hessian(self) -> Array:
        """Likewise."""
        return np.asarray(self.whole[4])


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the weights of m nodes, where a column is monotone.

    Args:
        monotone: (f,) int8 (:class:`hanse.boosting.constraints.Constraints`).
        weight: (m, 1) of each node.
        lower, upper: (m, 1) of the parts of its split.
    """

    monotone: Array
    weight: Array
    lower: Array
    upper: Array

    def part(self, nodes: slice) -> Bounds:
        """Those of some nodes."""
        return Bounds(self.monotone, self.weight[nodes], self.lower[nodes], self.upper[nodes])


def best(
    histograms: Array,
    scales: Array,
    bins: Binning,
    penalty: Penalty,
    allowed: Array | None = None,
    bounds: Bounds | None = None,
) -> Best:
    """The best split of each node.

    Args:
        histograms: (m, bins, 2) int64.
        scales: (m, 2) float64, powers of two: what a unit of the gradient and of the Hessian is worth.
        allowed: (m, f) bool, the columns that may be split on; None: all.
        bounds: None: no column is monotone.
    """
    m, size, _ = histograms.shape
    found = Best.none(m, bins)
    quick = bounds is None and loops(m, bins, penalty)
    step = max(1, (_QUICK_BLOCK if quick else _BLOCK) // max(1, size))
    compiled = _compiled(found, scales, bins, penalty, allowed) if quick else ()

    def search(some: slice) -> None:
        own = None if allowed is None else allowed[some]
        part = bounds and bounds.part(some)
        if quick:
            best_by_numbers(np.ascontiguousarray(histograms[some]), some.start, *compiled)
        if not quick or found.right.shape[1]:
            _search(found, some, histograms[some], scales[some], bins, penalty, own, part, quick)

    at_once(partial(search, slice(low, min(low + step, m))) for low in range(0, m if size else 0, step))
    return found


def best_below(
    sums: Sums,
    held: Array,
    above: Array,
    places: Array,
    kept: Array,
    scales: Array,
    bins: Binning,
    penalty: Penalty,
    allowed: Array | None = None,
) -> tuple[Best, Array, Array]:
    """The best split of each of m nodes, of which every other one's ``sums`` are known, where compiled loops find it
    (:func:`loops`) and no column is one of categories.

    Args:
        held: (h, bins, 2) int64 of nodes above; ``above``: (b,) which of them; (0,): these are roots.
        places: (b,) of the nodes that ``sums`` are of among all m; the others are their siblings.
        kept: (m,) bool, of which nodes the histograms are wanted.
        scales, bins, penalty, allowed: as of :func:`best`.

    Returns the splits, the histograms that are wanted, and (b, 2) the sums of all rows of a node.

    Raises:
        Impossible: these cannot be sums of rows.
    """
    found, totals = Best.none(len(scales), bins), np.zeros((len(places), 2), np.int64)
    held = np.ascontiguousarray(held)  # until loops are there, others laid them out
    at = np.where(kept, np.cumsum(kept) - 1, -1)
    histograms, held = np.empty((int(at.max()) + 1, int(bins.starts[-1]), 2), np.int64), held[:]
    held.flags.writeable = False
    compiled, wrong = _compiled(found, scales, bins, penalty, allowed), list[int]()

    def search(low: int, high: int) -> None:
        of = sums.bins[low:high], sums.own[low:high], sums.apart, held, above[low:high], places[low:high]
        wrong.append(best_of_pairs(*of, histograms, at, *compiled[:-2], totals[low:high], *compiled[-2:]))

    step = max(1, _QUICK_BLOCK // int(2 * bins.starts[-1]))
    at_once(partial(search, low, low + step) for low in range(0, len(places), step))
    if any(wrong):
        raise Impossible(_IMPOSSIBLE[max(wrong)])
    return found, histograms, totals


def loops(nodes: int, bins: Binning, penalty: Penalty) -> bool:
    """Whether compiled loops find the best splits on numbers, of so many nodes whose weights have no bounds."""
    return not penalty.max_delta_step and worthwhile(2 * nodes * int(bins.starts[-1]))


def _compiled(found: Best, scales: Array, bins: Binning, penalty: Penalty, allowed: Array | None) -> tuple[Any, ...]:
    """What compiled loops are given of what all of them need."""
    return (
        np.ascontiguousarray(scales, np.float64),
        bins.starts,
        (bins.categories == 0).astype(np.uint8),
        np.zeros((0, len(bins.count)), bool) if allowed is None else np.ascontiguousarray(allowed),
        np.array([penalty.reg_lambda, penalty.reg_alpha, penalty.min_child_weight, LEAST_GAIN, penalty.gamma]),
        found.whole,
        found.gain,
    )


def _search(
    found: Best,
    some: slice,
    histograms: Array,
    scales: Array,
    bins: Binning,
    penalty: Penalty,
    allowed: Array | None,
    bounds: Bounds | None,
    quick: bool,
) -> None:
    """Of some nodes; ``quick``: the best splits on numbers are known."""
    total, scales = histograms[:, : bins.starts[1]].sum(axis=1).T[:, :, None], scales.T[:, :, None]  # any column's
    gradient, hessian = total * scales
    parent = penalty.score(gradient, hessian) if bounds is None else penalty.worth(gradient, hessian, bounds.weight)

    def gain(left: Array, usable: Array | None, signs: Array | None) -> Array:
        return _gain(left, usable, total, scales, parent, penalty, bounds, signs)

    if not quick:
        _search_numbers(found, some, histograms, total, gain, bins, penalty, allowed, bounds)
    if found.right.shape[1]:
        _group(found, some, histograms, total, scales, gain, bins, penalty, allowed, bounds)


def _search_numbers(
    found: Best,
    some: slice,
    histograms: Array,
    total: Array,
    gain: Gain,
    bins: Binning,
    penalty: Penalty,
    allowed: Array | None,
    bounds: Bounds | None,
) -> None:
    absent = histograms[:, bins.starts[1:] - 1]  # the last bin of each column
    lacks = np.asarray(absent.any(axis=2))
    some_lack = bool(lacks.any())
    places = bins.values if some_lack else bins.between  # after which a node may be split
    column = bins.column[places]
    left = np.array(histograms.transpose(2, 0, 1), order="C")
    left[:, :, bins.starts[1:-1]] -= total  # each column adds up to it, so every one begins at 0
    left = np.cumsum(left, axis=2, out=left).take(places, axis=2)
    usable = None if allowed is None else allowed[:, column]
    signs = None if bounds is None else bounds.monotone[column]
    if some_lack:
        last = bins.starts[column + 1] - 2 == places  # a split only of missing values from given ones
        lacking = lacks[:, column] if usable is None else lacks[:, column] & usable
        usable = lacking | ~last if usable is None else usable & (lacking | ~last)
        if signs is not None:
            signs[last] = 0  # neither are less
    gains, default_left = gain(left, usable, signs), np.zeros(0, bool)
    if some_lack:
        others = gain(left + absent.transpose(2, 0, 1)[:, :, column], lacking & ~last, signs)
        default_left = np.asarray(others > gains)
        np.copyto(gains, others, where=default_left)
    at = gains.argmax(axis=1) if len(places) else np.zeros(0, np.int64)
    most = gains[np.arange(len(at)), at]
    of = np.flatnonzero((most > LEAST_GAIN) & (most >= penalty.gamma))
    at, nodes = at[of], some.start + of
    columns, to_left = column[at], default_left[of, at] if some_lack else np.zeros(len(of), bool)
    found.gain[nodes] = most[of]
    found.whole[:3, nodes] = columns, places[at] - bins.starts[columns], to_left
    found.whole[3:, nodes] = left[:, of, at] + absent[of, columns].T * to_left


def bit_bytes(bins: Binning) -> int:
    """How many bytes hold a bit for each category of any column."""
    return int(-(-bins.categories.max(initial=0) // 8))


def _group(
    found: Best,
    some: slice,
    histograms: Array,
    total: Array,
    scales: Array,
    gain: Gain,
    bins: Binning,
    penalty: Penalty,
    allowed: Array | None,
    bounds: Bounds | None,
) -> None:
    """Puts better splits of columns of categories in place of those that were found."""
    at = np.arange(some.start, some.stop)
    for column in np.flatnonzero(bins.categories).tolist():
        low = int(bins.starts[column])
        sums = histograms[:, low : low + int(bins.categories[column])]
        weights = penalty.weight(*(sums.transpose(2, 0, 1) * scales))
        signs = None if bounds is None else bounds.monotone[column]

        def own_gain(left: Array, usable: Array, signs: Array | None = signs) -> Array:
            return gain(left.transpose(2, 0, 1), usable, signs)

        few, most = penalty.max_cat_to_onehot, penalty.max_cat_threshold
        for own in groupings(sums, total[:, :, 0].T, weights, own_gain, few, most):
            better = (own.gain > LEAST_GAIN) & (own.gain >= penalty.gamma)
            better &= (own.gain > found.gain[at]) | ((own.gain == found.gain[at]) & (column < found.feature[at]))
            if allowed is not None:
                better &= allowed[:, column]
            to = at[better]
            found.gain[to], found.feature[to], found.bin[to] = own.gain[better], column, 0
            found.default_left[to] = own.default_left
            found.gradient[to], found.hessian[to] = own.left[better].T
            found.right[to] = 0
            bits = np.packbits(own.listed[better], axis=1)
            found.right[to, : bits.shape[1]] = bits


def _gain(
    left: Array,
    usable: Array | None,
    total: Array,
    scales: Array,
    parent: Array,
    penalty: Penalty,
    bounds: Bounds | None,
    signs: Array | None,
) -> Array:
    """(m, k) what is gained by each of k splits of each node; -inf where one is not allowed.

    Args:
        left: (2, m, k) int64, of the gradients and of the Hessians the sums of the left part.
        usable: (m, k) bool; None: all are.
        total, scales: (2, m, 1), of the node and of a unit.
        parent: (m, 1) what the node scores.
    """
    gradient, hessian = _parts(left, total, scales)
    fine = hessian >= penalty.min_child_weight if penalty.min_child_weight > 0 else hessian > 0
    fine = fine[0] & fine[1]
    if usable is not None:
        fine &= usable
    if bounds is None or signs is None:
        found, other = penalty.score(gradient, hessian)
    else:
        leaves = np.clip(penalty.weight(gradient, hessian), bounds.lower, bounds.upper)
        fine &= signs * (leaves[1] - leaves[0]) >= 0
        found, other = penalty.worth(gradient, hessian, leaves)
    found += other
    found -= parent
    np.copyto(found, -np.inf, where=~fine)
    return np.asarray(found)


def _parts(left: Array, total: Array, scales: Array) -> Array:
    """(2, 2, m, k) float64: of gradients and Hessians the sums of the left part, and what is left of the total."""
    found = np.empty((2, *left.shape))
    parts = found.transpose(1, 0, 2, 3)
    np.multiply(left, scales, out=found[0])
    if max(int(left.max(initial=0)), -int(left.min(initial=0)), int(np.abs(total).max(initial=0))) <= _EXACT:
        np.subtract(total * scales, found[0], out=found[1])  # no number is rounded, so it is the same, and quicker
    else:
        np.multiply(total - left, scales, out=found[1])
    return parts


@at_first
def _first() -> None:
    bins = Binning(np.zeros(1, np.float32), np.ones(1, np.int64), np.zeros(1, np.int64))
    held, roots, first = np.zeros((0, 0, 2), np.int64), np.zeros(0, np.int64), np.zeros(1, np.int64)
    best_below(Sums.of(np.zeros((1, 3), np.int64)), held, roots, first, first == 0, np.ones((1, 2)), bins, Penalty())
