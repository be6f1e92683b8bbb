"""What a node keeps of boosting: its rows in bins, their margins, and which leaf of the growing trees each is in.

It changes from ask to ask, so it carries two stamps, which the coordinator gives it: what its margins are made of, and
how far its trees have grown. An ask says which stamps it goes on from. A node that does not have these (it was started
anew, it missed some trees, the coordinator went back) says so, and is sent all trees, which make the margins again: the
same bits, since each row's margin is added up alone, tree after tree.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from hanse.boosting.binning import Binning
from hanse.boosting.compiled import at_once, spans, threads
from hanse.boosting.growing import Splits
from hanse.boosting.kernel import add_to, add_up, part, walk
from hanse.boosting.packed import fits, packed, unpacked
from hanse.boosting.trees import Trees, fault
from hanse.errors import DataError, WireError
from hanse.learning.ensembles import must_be
from hanse.messages import Array

_LEAST_ROWS = 1 << 14  # of a thread
_BY_COLUMN = 1 << 24  # bytes of bins; more are not held twice
_PARTED = 1 << 18  # rows; fewer are parted in less time than another thread needs to begin
_NONE = np.zeros(0, np.int32)
_NOWHERE = np.array([-1, 0, 0])


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
        order: int32, the rows that the first tree learns from, then those of the next; those of a node one after the
            other.
        bounds: (trees + 1,) where the rows of each tree begin there.
        places: (nodes, 3) int64, of each the output, and from where to where its rows stand in ``order``; the output
            is -1 where they stand at its children.
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
    order: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    bounds: list[int] = field(default_factory=lambda: [0])
    places: Array = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    others: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    filled: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    largest: tuple[int, int] | None = None
    _starts: Array = field(init=False)
    _columns: tuple[Array, Array] = field(init=False)
    _fits: dict[bytes, bool] = field(default_factory=dict)  # by the bins told apart: whether all others' sums are one

    def __post_init__(self) -> None:
        if wrong := self.bins.fault():
            raise WireError(f"the bins that it was told are not usable: {wrong}")
        self.binned = self.bins.put(self.columns(), self.rows)
        self.by_column = np.asfortranarray(self.binned) if self.binned.nbytes <= _BY_COLUMN else self.binned
        self._starts = self.bins.starts.astype(np.uint64)
        self._columns = np.array(self.bins.count, np.int64), np.array(self.bins.categories, np.int64)
        self.margins = np.tile(np.asarray(self.base, np.float32), (self.rows, 1))

    # ------------------------------------------------------------ margins

    def add(self, trees: Trees, rows: Array | None = None) -> None:
        """Adds what these trees add, to the margins of all rows or of some. Raises ``WireError`` for arrays that are no
        trees of this table: the loop that walks them goes, and writes, where they say."""
        rows = np.arange(self.rows, dtype=np.int32) if rows is None else rows
        if not len(rows):
            return
        must_be(fault(trees, len(self.bins.count), self.margins.shape[1]))
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
        if len(adds) < len(self.places):
            raise DataError(f"{len(self.places)} nodes have grown here, and it is said of {len(adds)} what they add")
        add_to(self.margins, self.order, self.places, np.array(adds, np.float32))

    # ------------------------------------------------------------ growing

    @property
    def parallel(self) -> int:
        """Trees of each output that grow."""
        return (len(self.bounds) - 1) // max(1, len(self.pairs))

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
        self.order, self.grown = self.order[:0].copy(), ""
        if self.pairs.shape != (outputs, self.rows, 2):
            self.pairs = np.zeros((outputs, self.rows, 2), np.int32)
        self.bounds = [0, *itertools.accumulate(map(len, rows))]
        before, self.largest = self.largest, largest if learned is not None else None
        uncounted = learned is not None and largest is not None and not len(self.filled)
        if uncounted:
            self.filled = self._counted(np.asarray(learned, np.int32))
        if uncounted or self.largest != before:
            self._fits.clear()
        self.order = np.concatenate([np.zeros(0, np.int32), *rows], dtype=np.int32)
        outputs_of = np.arange(len(rows)) // max(1, self.parallel)
        self.places = np.stack([outputs_of, self.bounds[:-1], self.bounds[1:]], axis=1).astype(np.int64)
        self.others = np.zeros(0, np.int32)
        if rows and len(rows[0]) < self.rows:  # else there are none
            other = np.ones(self.rows, bool)
            other[rows[0]] = False
            self.others = np.flatnonzero(other).astype(np.int32)

    def split(self, splits: Splits, stamp: str) -> None:
        """Sends the rows of nodes to their children, and on to theirs. Raises ``DataError`` where a split is of no node
        that has rows, or of a column or to a child that there is not; the rows of all trees are lost then."""
        self.grown = ""
        told = np.empty((len(splits.node), 5), np.int64)
        for place, own in enumerate((splits.node, splits.left, splits.feature, splits.bin, splits.default_left)):
            told[:, place] = own
        right, done, before = np.array(splits.right), 0, len(self.places)
        places = np.empty((before + 2 * len(told), 3), np.int64)
        places[:before], places[before:] = self.places, _NOWHERE
        spare = np.empty_like(self.order)

        def some(low: int, high: int) -> None:
            if not part(self.by_column, told[low:high], right[low:high], *self._columns, self.order, spare, places):
                raise DataError("it was asked to split a node that has no rows here, or by what its table has not")

        if len(self.order) < _PARTED:
            some(0, len(told))
            done = len(told)
        while done < len(told):  # a level at a time
            own = places[np.clip(told[done:, 0], 0, len(places) - 1)]
            ready = max(1, int(np.append(own[:, 0], -1).argmin()))
            at_once(partial(some, done + low, done + high) for low, high in _groups(own[:ready]))
            done += ready
        self.places, self.grown = places, stamp

    def standing(self, nodes: Array) -> Array:
        """(nodes, 3) int64: of each the output, and from where to where its rows stand in ``order``. Raises
        ``DataError`` where there is no such node, or its rows stand at its children."""
        try:
            found = self.places.take(nodes.astype(np.uint32), axis=0)  # none is below 0
        except IndexError:
            found = np.array([[-1, 0, 0]])
        if found.min(initial=0) < 0:
            raise DataError("it was asked for sums of a node that has no rows here")
        return found

    def _counted(self, rows: Array) -> Array:
        """(bins,) how many of these rows each has. Their pairs are overwritten."""
        counts = np.zeros((1, int(self._starts[-1])), np.int64)
        self.pairs[0] = 0, 1
        add_up(self.binned, self.pairs, rows, np.array([[0, 0, len(rows)]]), self._starts, counts)
        return np.asarray(counts[0])

    def _fit(self, apart: Array = _NONE) -> bool:
        """Whether both sums of each bin, but for those ``apart``, are one number."""
        which = apart.tobytes()
        if (known := self._fits.get(which)) is None:
            if ((apart < 0) | (apart >= int(self._starts[-1]))).any() or (np.diff(apart) <= 0).any():
                raise WireError("the bins that are told apart do not rise, or are none of this table")
            if len(self._fits) > 1:  # those apart are the same in all rounds
                self._fits.clear()
            most = int(np.delete(self.filled, apart).max(initial=0)) if len(self.filled) else 0
            known = self._fits[which] = self.largest is not None and fits(most, self.largest)
        return known and self.largest is not None

    def histograms(self, nodes: Array, places: Array | None = None) -> Array:
        """(nodes, bins, 2) int64: the sums of the pairs of each node's rows in each bin. ``places``: as
        :meth:`standing` has them, where they were looked at."""
        sums = self._summed(self.standing(nodes) if places is None else places)
        return unpacked(sums) if sums.ndim == 2 else sums

    def packed(self, nodes: Array, apart: Array, places: Array | None = None) -> tuple[Array, Array]:
        """The same as :mod:`hanse.boosting.packed` has it, (nodes, bins) int64, but for the bins that are told
        ``apart``: these are 0 there, and their sums are (nodes, apart, 2) int64. Raises ``DataError`` where those of
        the others may not fit."""
        if not self._fit(apart):
            raise DataError(
                "a bin has more rows here than were counted before the first tree; has the table changed? Run it again"
            )
        sums = self._summed(self.standing(nodes) if places is None else places)
        if not len(apart):
            return (sums if sums.ndim == 2 else packed(sums)), np.zeros((len(sums), 0, 2), np.int64)
        own = sums[:, apart]
        sums[:, apart] = 0
        return (sums, unpacked(own)) if sums.ndim == 2 else (packed(sums), own)

    def _summed(self, places: Array) -> Array:
        """The sums of each bin in one number where all of this site's fit, else in two."""
        sums = np.zeros((len(places), int(self._starts[-1]), *(() if self._fit() else (2,))), np.int64)
        rows, more = int((places[:, 2] - places[:, 1]).sum()), list[tuple[int, Array]]()
        tasks: list[Callable[[], object]] = []

        def task(own: Array, into: Array) -> None:
            tasks.append(partial(add_up, self.binned, self.pairs, self.order, own, self._starts, into))

        if threads() == 1 or rows < _LEAST_ROWS:
            task(places, sums)
        elif len(places) >= 2 * threads():  # enough for all threads, some nodes each
            for first, last in _groups(places):
                task(places[first:last], sums[first:last])
        else:
            for i, (output, low, high) in enumerate(places.tolist()):
                for first, last in spans(high - low, _LEAST_ROWS):
                    into = sums[i : i + 1] if first == 0 else np.zeros_like(sums[i : i + 1])
                    if first:
                        more.append((i, into))
                    task(np.array([[output, low + first, low + last]]), into)
        at_once(tasks, rows >= _LEAST_ROWS)
        for i, own in more:
            sums[i] += own[0]
        return sums


def _groups(places: Array) -> list[tuple[int, int]]:
    """Spans of nodes, of about as many rows as each thread has to do, or at least ``_LEAST_ROWS``."""
    found, first, rows = list[tuple[int, int]](), 0, 0
    sizes = (places[:, 2] - places[:, 1]).tolist()
    most = max(_LEAST_ROWS, sum(sizes) // threads())
    for i, size in enumerate(sizes):
        if i > first and rows + size > most:
            found.append((first, i))
            first, rows = i, 0
        rows += size
    return [*found, (first, len(sizes))] if sizes else []
