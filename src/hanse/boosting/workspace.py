"""What a node keeps of boosting: its rows in bins, their margins, and which leaf of the growing trees each is in.

It changes from ask to ask, so it carries two stamps, which the coordinator gives it: what its margins are made of, and
how far its trees have grown. An ask says which stamps it goes on from. A node that does not have these (it was started
anew, it missed some trees, the coordinator went back) says so, and is sent all trees, which make the margins again: the
same bits, since each row's margin is added up alone, tree after tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from hanse.boosting.binning import Binning
from hanse.boosting.compiled import at_once, spans, threads
from hanse.boosting.growing import Splits
from hanse.boosting.kernel import add_to, add_up, part, walk
from hanse.boosting.packed import fits, packed, unpacked
from hanse.boosting.trees import Trees
from hanse.errors import DataError
from hanse.messages import Array

_LEAST_ROWS = 1 << 14  # of a thread
_BY_COLUMN = 1 << 24  # bytes of bins; more are not held twice
_PARTED = 1 << 18  # rows; fewer are parted in less time than another thread needs to begin


@dataclass(slots=True)
class Workspace:
    """The rows of one site. Their values are looked at once, when they are put in bins, and are not kept: what a split
    needs to know of a value is its bin.

    Args:
        columns: gives the columns of the design matrix, (n, k) a few after the other.
        rows: n; ``bins``: how they are put in bins.
        base: (outputs,) float32, the margins without trees.
        boosted, grown: the stamps.
        binned: (n, f) their bins, one row after the other, and ``by_column`` the same one column after the other, where
            they are few: who parts rows looks at one column of them, and at one row after the other it would read all.
        margins: (n, outputs) float32.
        pairs: (outputs, n, 2) int32, gradients and Hessians in units of their scales.
        order: of each tree the rows that it learns from, those of a node one after the other.
        places: of each node the tree, and from where to where its rows stand.
        others: the rows that no tree of this round learns from, where each output has one.
        filled: (bins,) how many of the rows that trees may learn from each bin has; (0,) before that is counted.
        largest: that |g| and h of a row can be, in their units; None: nobody knows.
    """

    columns: Callable[[], Iterable[Array]]
    rows: int
    bins: Binning
    base: Array
    boosted: str = ""
    grown: str = ""
    binned: Array = field(default_factory=lambda: np.zeros(0))
    by_column: Array = field(default_factory=lambda: np.zeros(0))
    margins: Array = field(default_factory=lambda: np.zeros(0))
    pairs: Array = field(default_factory=lambda: np.zeros((0, 0, 2), np.int32))
    order: list[Array] = field(default_factory=list)
    places: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    others: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    filled: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    largest: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.binned = self.bins.put(self.columns(), self.rows)
        self.by_column = np.asfortranarray(self.binned) if self.binned.nbytes <= _BY_COLUMN else self.binned
        self.margins = np.tile(np.asarray(self.base, np.float32), (self.rows, 1))

    # ------------------------------------------------------------ margins

    def add(self, trees: Trees, rows: Array | None = None) -> None:
        """Adds what these trees add, to the margins of all rows or of some."""
        rows = np.arange(self.rows, dtype=np.int32) if rows is None else rows
        if not len(rows):
            return
        bins, binned = self.bins, self.binned
        if not bins.hold(trees):  # another run grew them, whose bins had other edges
            bins = bins.splitting(trees)
            binned = bins.put(self.columns(), self.rows)
        starts, last, missing = trees.starts, bins.last_left(trees), bins.count[trees.feature] + 1
        segments = np.concatenate([[0], np.cumsum(trees.listed, dtype=np.int64)])

        def some(low: int, high: int) -> None:
            for tree, group in enumerate(trees.group.tolist()):
                nodes = slice(starts[tree], starts[tree + 1])
                own = (trees.left, trees.right, trees.feature, last, missing, trees.default_left, trees.value)
                parts = (np.ascontiguousarray(array[nodes]) for array in own)
                ends = segments[starts[tree] : starts[tree + 1] + 1]
                walk(binned, rows[low:high], *parts, ends, trees.categories, self.margins, group)

        at_once(partial(some, *span) for span in spans(len(rows), _LEAST_ROWS))

    def add_leaves(self, adds: Array) -> None:
        """The same for the rows that the trees have grown on, one of each output.

        Args:
            adds: (nodes,) float32, what each node adds.
        """
        for tree, rows in enumerate(self.order):
            leaves = [(node, low, high) for node, (own, low, high) in self.places.items() if own == tree]
            node, low, high = np.array(leaves, np.int64).reshape(-1, 3).T
            add_to(self.margins, tree, rows, low, high, adds[node])

    # ------------------------------------------------------------ growing

    @property
    def parallel(self) -> int:
        """Trees of each output that grow."""
        return len(self.order) // max(1, len(self.pairs))

    def begin(
        self,
        outputs: int,
        rows: list[Array],
        learned: Array | None = None,
        largest: tuple[int, int] | None = None,
    ) -> None:
        """The ``rows`` of each tree are at its root, those of one output come one after the other. Whoever asked has
        their ``pairs`` to write, and ``grown`` to say then.

        Args:
            learned: those that any tree may learn from, the same in all rounds.
            largest: that |g| and h of a row can be, in their units; None: nobody knows.
        """
        self.order, self.grown = [], ""
        if self.pairs.shape != (outputs, self.rows, 2):
            self.pairs = np.zeros((outputs, self.rows, 2), np.int32)
        self.largest = largest if learned is not None else None
        if learned is not None and largest is not None and not len(self.filled):
            self.filled = self._counted(np.asarray(learned, np.int32))
        self.order = [np.array(own, np.int32) for own in rows]
        self.places = {tree: (tree, 0, len(own)) for tree, own in enumerate(rows)}
        self.others = np.zeros(0, np.int32)
        if rows and len(rows[0]) < self.rows:  # else there are none
            other = np.ones(self.rows, bool)
            other[rows[0]] = False
            self.others = np.flatnonzero(other).astype(np.int32)

    def split(self, splits: Splits, stamp: str) -> None:
        """Sends the rows of nodes to their children, and on to theirs."""
        goes_left, left = self._ways(splits), list(range(len(splits.node)))
        while left:
            now = [i for i in left if int(splits.node[i]) in self.places]
            self._part([(i, self.places.pop(int(splits.node[i]))) for i in now], splits, goes_left)
            done = set(now)
            left = [i for i in left if i not in done] if now else []
        self.grown = stamp

    def _ways(self, splits: Splits) -> Array:
        """(splits, most bins) uint8: 1 where rows of a bin go left at a split."""
        found = np.arange(int(self.bins.count.max(initial=0)) + 2) <= splits.bin[:, None]
        for i in np.flatnonzero(self.bins.categories[splits.feature]).tolist():
            many = int(self.bins.categories[splits.feature[i]])
            found[i, :many] = np.unpackbits(splits.right[i])[:many] == 0
        found[np.arange(len(found)), self.bins.count[splits.feature] + 1] = splits.default_left
        return found.astype(np.uint8)

    def _part(self, nodes: list[tuple[int, tuple[int, int, int]]], splits: Splits, goes_left: Array) -> None:
        """Parts the rows of some nodes, of which it is known where they stand."""
        middle = np.zeros(len(nodes), np.int64)

        def some(tree: int, first: int, last: int) -> None:
            at, rows = [i for i, _ in nodes[first:last]], self.order[tree]
            columns, ends = splits.feature[at].astype(np.int64), _ends(places[first:last])
            part(self.by_column, columns, goes_left[at], rows, *ends, np.empty_like(rows), middle[first:last])

        places = [place for _, place in nodes]
        whole = sum(high - low for _, low, high in places)
        at_once((partial(some, *group) for group in _groups(places)), whole >= _PARTED)
        for (i, (tree, low, high)), cut in zip(nodes, middle.tolist(), strict=True):
            child = int(splits.left[i])
            self.places[child], self.places[child + 1] = (tree, low, cut), (tree, cut, high)

    def rows_of(self, node: int) -> Array:
        """The rows of a node."""
        output, low, high = self.places[node]
        return self.order[output][low:high]

    def _counted(self, rows: Array) -> Array:
        """(bins,) how many of these rows each has. Their pairs are overwritten."""
        counts, starts = np.zeros((1, int(self.bins.starts[-1])), np.int64), self.bins.starts.astype(np.uint64)
        ones = self.pairs[0]
        ones[:] = 0, 1
        add_up(self.binned, ones, rows, *_ends([(0, 0, len(rows))]), starts, counts)
        return np.asarray(counts[0])

    def _fit(self, filled: Array) -> bool:
        """Whether both sums of bins with so many rows are one number."""
        return self.largest is not None and fits(int(filled.max(initial=0)), self.largest)

    def histograms(self, nodes: Array) -> Array:
        """(nodes, bins, 2) int64: the sums of the pairs of each node's rows in each bin."""
        sums = self._summed(nodes)
        return unpacked(sums) if sums.ndim == 2 else sums

    def packed(self, nodes: Array, apart: Array) -> tuple[Array, Array]:
        """The same as :mod:`hanse.boosting.packed` has it, (nodes, bins) int64, but for the bins that are told
        ``apart``: these are 0 there, and their sums are (nodes, apart, 2) int64. Raises ``DataError`` where those of
        the others may not fit."""
        if not self._fit(np.delete(self.filled, apart)):
            raise DataError(
                "a bin has more rows here than were counted before the first tree; has the table changed? Run it again"
            )
        sums = self._summed(nodes)
        own = sums[:, apart]
        sums[:, apart] = 0
        return (sums, unpacked(own)) if sums.ndim == 2 else (packed(sums), own)

    def _summed(self, nodes: Array) -> Array:
        """The sums of each bin in one number where all of this site's fit, else in two."""
        starts = self.bins.starts
        sums = np.zeros((len(nodes), int(starts[-1]), *(() if self._fit(self.filled) else (2,))), np.int64)
        places = [self.places[node] for node in nodes.tolist()]
        whole = sum(high - low for _, low, high in places)
        add = partial(add_up, self.binned)
        more: list[tuple[int, Array]] = []
        tasks: list[Callable[[], object]] = []

        def task(tree: int, own: list[tuple[int, int, int]], into: Array) -> None:
            pairs = self.pairs[tree // self.parallel]
            tasks.append(partial(add, pairs, self.order[tree], *_ends(own), starts.astype(np.uint64), into))

        if len(nodes) >= 2 * threads():  # enough for all threads, some nodes each
            for tree, first, last in _groups(places):
                task(tree, places[first:last], sums[first:last])
        else:
            for i, (tree, low, high) in enumerate(places):
                for first, last in spans(high - low, _LEAST_ROWS):
                    into = sums[i] if first == 0 else np.zeros_like(sums[i])
                    if first:
                        more.append((i, into))
                    task(tree, [(tree, low + first, low + last)], into[None])
        at_once(tasks, whole >= _LEAST_ROWS)
        for i, own in more:
            sums[i] += own
        return sums


def _ends(places: list[tuple[int, int, int]]) -> tuple[Array, Array]:
    """(nodes,) int64 each: from where to where their rows stand."""
    _, low, high = np.array(places, np.int64).reshape(-1, 3).T
    return np.ascontiguousarray(low), np.ascontiguousarray(high)


def _groups(places: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Spans of nodes of one tree (and which), of about as many rows as each thread has to do, or at least
    ``_LEAST_ROWS``."""
    found, first, rows = list[tuple[int, int, int]](), 0, 0
    most = max(_LEAST_ROWS, sum(high - low for _, low, high in places) // threads())
    for i, (tree, low, high) in enumerate(places):
        if i > first and (tree != places[first][0] or rows + (high - low) > most):
            found.append((places[first][0], first, i))
            first, rows = i, 0
        rows += high - low
    return [*found, (places[first][0], first, len(places))] if places else []
