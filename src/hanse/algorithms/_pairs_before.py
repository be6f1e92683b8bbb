"""Pairs of columns that other questions were told of.

Two pairs that have a column in common each sum it over rows of their own. Where these sets of rows differ by few, so
do the sums: those of (a, b) less those of (a, c) would be a's values of these few. Within a question
:mod:`hanse.statistics._pairs` keeps both back; of two questions the first is told, and the other kept back.

What was told is remembered with its groups, since a pair of all rows, less its groups, is what is left of them: two
pairs that differ by many in all rows may do so by few in a group, or in those groups that were kept back. So is what
was told of a column by itself in groups, which is a pair of it with itself. By two groupings each is compared with
itself, too.
"""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from hanse.algorithms._owner import present
from hanse.algorithms._query import Query, labels_by
from hanse.kinds import Source
from hanse.messages import Array
from hanse.queries import Arrays, Item, codes, ordered, statistic

MOST = 32  # columns that are compared, as in one question; of more, those that lack rows are kept back
_TOLD = "pairs"
_NOT = np.inf  # rows by which no sum differs
_TABLE_BYTES = 64 << 20  # of tables of rows by two groupings that are kept for the next pair

Pair = frozenset[str]
By = tuple[str, ...]  # grouping columns by name; () for all rows
Groups = dict[By, set[tuple[str, ...]]]  # of a pair: the groups that were told, by their labels
Told = dict[Pair, Groups]


def are_of(item: Item) -> bool:
    """Whether an item tells sums over the rows of pairs of its columns, or of a column in groups."""
    stat = statistic(item.stat)
    return stat.sums and (len(item.columns) > 1 or bool(item.by))


class Earlier:
    """What was told of pairs of columns before, for the items of one ask.

    Args:
        items: those of the ask.
        known: what they rest on, labels of groups included.
    """

    def __init__(self, source: Source, query: Query, items: Sequence[Item], known: Arrays, minimum: int) -> None:
        self._source, self._minimum = source, minimum
        here = {*source.schema}
        self._items = [item for item in items if are_of(item) and {*item.by} <= here and {*item.columns} & here]
        self._labels = {
            name: of
            for item in self._items
            for name, of in zip(item.by, labels_by(query.plan, known, item), strict=True)
        }
        self._told = _before(source) if self._items else {}
        self._fresh = False

    def kept_back(self, item: Item, told: Mapping[tuple[str, ...], Array]) -> Array:
        """(p, p) bool: the pairs of an item to keep back, of those that would be told. The others count as told.

        Args:
            told: of each group, by its labels, (p, p) bool which pairs of it.
        """
        p, by, order = len(item.columns), *_sorted(item.by)
        out = np.zeros((p, p), bool)
        if item not in self._items or self._minimum <= 1:
            return out
        fresh: Told = {}
        for labels, pairs in told.items():
            for i, j in np.argwhere(np.triu(pairs)):
                if i != j or p == 1:  # a column's own sum over all rows is what pairs are compared with in any case
                    pair = Pair((item.columns[i], item.columns[j]))
                    fresh.setdefault(pair, {}).setdefault(by, set()).add(tuple(labels[k] for k in order))
        unseen = {pair for pair, of in fresh.items() if not of[by] <= self._told.get(pair, {}).get(by, set())}
        back = self._close(fresh, unseen)
        if kept := {pair: of for pair, of in fresh.items() if pair in unseen - back}:
            self._told, self._fresh = _joined(self._told, kept), True
        for i, j in np.ndindex(p, p):
            out[i, j] = Pair((item.columns[i], item.columns[j])) in back
        return out

    def remember(self) -> None:
        """Keeps what is about to be told."""
        if self._fresh:
            self._source.memory[_TOLD] = _as_json(self._told)

    def _close(self, fresh: Told, unseen: set[Pair]) -> set[Pair]:
        """Those of the unseen pairs that differ by few rows from another, in what is told of both in any way."""
        mine = frozenset().union(*unseen)
        others = {pair for pair in self._told if pair & mine}
        if all(len(pair) == 1 for pair in unseen):
            others = {pair for pair in others if len(pair) > 1 or pair in unseen}
        if not unseen or all(self._told[pair] == fresh.get(pair) for pair in others):
            return set()
        columns, told = mine.union(*others), _joined(self._told, fresh)
        if self._rows.whole(columns):  # all pairs are of all rows
            one, together = next(iter(unseen)), Told()
            for pair in others | unseen:
                together = _joined(together, {one: told[pair]})
            return unseen if self._rows.differ_by_few(one, one, together, self._minimum) else set()
        if len(columns) > MOST and any(len(pair) > 1 for pair in unseen):
            sharing = Counter(name for pair in others if len(pair) > 1 for name in pair)
            return {pair for pair in unseen if sum(sharing[name] for name in pair) > 2 * (pair in others)}
        found = set[Pair]()
        for pair in unseen:
            for other in others | {*fresh}:
                if pair & other and self._rows.differ_by_few(pair, other, told, self._minimum):
                    found |= {pair} | ({other} & unseen)  # of one question both are, whichever comes first
        return found

    @functools.cached_property
    def _rows(self) -> _Rows:
        asked = {name for item in self._items for name in item.columns if name in self._source.schema}
        others = [pair for pair in self._told if pair & asked and pair <= {*self._source.schema}]
        labels = {name: {*of} for name, of in self._labels.items()}
        for pair in others:
            for by, groups in self._told[pair].items():
                for at, name in enumerate(by if {*by} <= {*self._source.schema} else ()):
                    labels.setdefault(name, set()).update(one[at] for one in groups)
        return _Rows(self._source, sorted(asked.union(*others)), {name: ordered([*of]) for name, of in labels.items()})


class _Rows:
    """How many rows have which of some columns, in which groups."""

    def __init__(self, source: Source, columns: Sequence[str], labels: Mapping[str, tuple[str, ...]]) -> None:
        self._labels = labels
        found: Counter[bytes] = Counter()
        width = -(-len(columns) // 8)
        for batch in source.batches(sorted({*columns, *labels})):
            bits = np.packbits(np.column_stack([present(batch[name]) for name in columns]), axis=1)
            place = [codes(batch[name], of) % (len(of) + 1) for name, of in labels.items()]  # -1: none of these
            codes_of = np.column_stack([np.zeros(batch.rows, np.int64), *place]).view(np.uint8)
            ways = np.ascontiguousarray(np.hstack([bits, codes_of]))
            each, counts = np.unique(ways.view(f"V{ways.shape[1]}").reshape(-1), return_counts=True)
            found.update({way.tobytes(): int(n) for way, n in zip(each, counts, strict=True)})
        ways = np.frombuffer(b"".join(found), np.uint8).reshape(len(found), -1)
        self._counts = np.array([*found.values()], float)
        there = np.unpackbits(np.ascontiguousarray(ways[:, :width]), axis=1, count=len(columns)).T > 0
        self._there = dict(zip(columns, there, strict=True))
        self._place = dict(zip(labels, np.ascontiguousarray(ways[:, width:]).view(np.int64)[:, 1:].T, strict=True))
        alike: dict[bytes, str] = {}
        self._like = {name: alike.setdefault(has.tobytes(), name) for name, has in self._there.items()}
        self._compared: dict[object, bool] = {}
        # The same columns are looked at in the same groups again and again: each pair with each other
        self._at = {name: {label: at for at, label in enumerate(of)} for name, of in labels.items()}
        self._groups_of: dict[By, Array] = {}
        self._places: dict[tuple[By, frozenset[tuple[str, ...]]], Array] = {}
        self._tables: OrderedDict[tuple[Pair, By, By], Array] = OrderedDict()
        self._held = 0  # bytes of these

    def whole(self, columns: Collection[str]) -> bool:
        """Whether all rows have these columns."""
        return all(bool(self._there[name].all()) for name in columns)

    def differ_by_few(self, pair: Pair, other: Pair, told: Told, minimum: int) -> bool:
        """Whether sums of what is told of two pairs, and of their groups, are of few rows that one of them has."""
        mine, others = (
            {by: groups for by, groups in told.get(of, {}).items() if {*by} <= {*self._place}}
            | ({(): {()}} if len(of) == 1 else {})  # a column's own sum is told in any case
            for of in (pair, other)
        )
        key = frozenset(  # of the one and the other, or of the other and the one
            (frozenset(self._like[name] for name in of), frozenset((by, frozenset(g)) for by, g in groups.items()))
            for of, groups in ((pair, mine), (other, others))
        )
        if key not in self._compared:
            self._compared[key] = self._differ(pair, other, mine, others, minimum)
        return self._compared[key]

    def _differ(self, pair: Pair, other: Pair, mine: Groups, others: Groups, minimum: int) -> bool:
        ways = {*mine, *others}
        for fine in ways:
            group, p, q, apart = self._in_groups(pair, other, fine)
            p_told, q_told = (self._told(of.get(fine, set()), fine) for of in (mine, others))
            if _few(apart[p_told & q_told], minimum):
                return True
            for coarse in (of for of in ways if {*of} < {*fine}):
                a, b = self._told(mine.get(coarse, set()), coarse), self._told(others.get(coarse, set()), coarse)
                outer = np.zeros(len(p), np.int64)
                outer[group] = self._group_of(coarse)
                for at in np.flatnonzero(a | b):
                    parts = [x[outer == at] for x in (p, q, apart, p_told, q_told)]
                    if _sums_of_few(*parts, starts=(bool(a[at]), bool(b[at])), minimum=minimum):
                        return True
        return any(
            self._across((pair, mine, one), (other, others, two), minimum)
            or self._across((other, others, two), (pair, mine, one), minimum)
            for one in mine
            for two in others
            if not {*one} <= {*two} and not {*two} <= {*one}
        )

    def _across(self, of: tuple[Pair, Groups, By], beside: tuple[Pair, Groups, By], minimum: int) -> bool:
        """Whether groups of the one pair, added, differ by few from a group of another pair by other columns, from all
        its groups, or from what all rows exceed these by."""
        (pair, mine, one), (other, others, two) = of, beside
        p, q, both = (self._table(columns, one, two) for columns in (pair, other, pair | other))
        told = self._told(others[two], two)
        sets = [(q[:, told], both[:, told])]
        sets.append((q[:, told].sum(1, keepdims=True), both[:, told].sum(1, keepdims=True)))
        if () in others:
            sets += [(q.sum(1, keepdims=True) - x, both.sum(1, keepdims=True) - y) for x, y in sets]
        for rows, common in sets:
            with_it = p.sum(1, keepdims=True) + rows - 2 * common
            costs = np.stack([rows, np.where(self._told(mine[one], one)[:, None], with_it, _NOT)])
            least = costs.min(0).sum(0)
            if _few(least, minimum) or _few(costs[:, :, least == 0], minimum):
                return True
        return False

    def _table(self, columns: Pair, one: By, two: By) -> Array:
        """How many rows have all of some columns, by the groups of two ways."""
        if two < one:
            return self._table(columns, two, one).T
        key = (columns, one, two)
        if (found := self._tables.pop(key, None)) is None:
            size = self._size(one), self._size(two)
            place = self._group_of(one) * size[1] + self._group_of(two)
            found = np.bincount(place, self._counts * self._has(columns), size[0] * size[1]).reshape(size)
            self._held += found.nbytes
        self._tables[key] = found
        while self._held > _TABLE_BYTES and len(self._tables) > 1:
            self._held -= self._tables.popitem(last=False)[1].nbytes
        return found

    def _has(self, pair: Pair) -> Array:
        return np.asarray(np.all([self._there[name] for name in pair], axis=0))

    def _in_groups(self, pair: Pair, other: Pair, by: By) -> tuple[Array, Array, Array, Array]:
        """Each pattern's group, and of each group the rows of the one pair, of the other, and those of one alone."""
        p, q, both = (self._table(columns, by, ())[:, 0] for columns in (pair, other, pair | other))
        return self._group_of(by), p, q, p + q - 2 * both

    def _group_of(self, by: By) -> Array:
        if by not in self._groups_of:
            place = np.zeros(len(self._counts), np.int64)
            for name in by:
                place = place * (len(self._labels[name]) + 1) + self._place[name]
            self._groups_of[by] = place
        return self._groups_of[by]

    def _size(self, by: By) -> int:
        return int(np.prod([len(self._labels[name]) + 1 for name in by], dtype=np.int64))

    def _told(self, groups: set[tuple[str, ...]], by: By) -> Array:
        key = by, frozenset(groups)
        if key not in self._places:
            found = np.zeros(self._size(by), bool)
            for labels in groups:
                place = 0
                for name, label in zip(by, labels, strict=True):
                    place = place * (len(self._labels[name]) + 1) + self._at[name][label]
                found[place] = True
            self._places[key] = found
        return self._places[key]


def _sums_of_few(
    p: Array, q: Array, apart: Array, p_told: Array, q_told: Array, *, starts: tuple[bool, bool], minimum: int
) -> bool:
    """Whether what is told of two pairs in all rows (``starts``), less any of their groups, is of few rows.

    Args:
        p, q, apart: (g,) rows of each group that are in the one pair, in the other, and in one alone.
        p_told, q_told: (g,) whether the group is told.
    """
    for a, b in ((True, False), (False, True), (True, True)):
        if (a and not starts[0]) or (b and not starts[1]):
            continue
        ways = []  # of each group: it is in the sum of both, of one, or of none
        for x, y, rows in ((True, True, apart), (True, False, p), (False, True, q), (False, False, np.zeros(len(p)))):
            ways.append(np.where((p_told | (x == a)) & (q_told | (y == b)), rows, _NOT))
        costs = np.stack(ways)
        least = costs.min(0)
        if 0 < least.sum() < minimum or (not least.sum() and _few(costs[np.isfinite(costs)], minimum)):
            return True
    return False


def _few(rows: Array, minimum: int) -> bool:
    return bool(np.any((rows > 0) & (rows < minimum)))


def _sorted(by: By) -> tuple[By, list[int]]:
    order = sorted(range(len(by)), key=lambda at: by[at])
    return tuple(by[at] for at in order), order


def _joined(one: Told, two: Told) -> Told:
    found: Told = {pair: {by: {*groups} for by, groups in of.items()} for pair, of in one.items()}
    for pair, of in two.items():
        for by, groups in of.items():
            found.setdefault(pair, {}).setdefault(by, set()).update(groups)
    return found


def _before(source: Source) -> Told:
    found: Told = {}
    for entry in source.memory.get(_TOLD) or ():
        plain = all(isinstance(name, str) for name in entry)  # groups were not told apart once: a pair, and no more
        pair, by, labels = (entry, (), [()]) if plain else entry
        found.setdefault(Pair(map(str, pair)), {})[tuple(by)] = {tuple(one) for one in labels}
    return found


def _as_json(told: Told) -> list[list[object]]:
    return sorted(
        [sorted(pair), list(by), sorted(map(list, groups))] for pair, of in told.items() for by, groups in of.items()
    )
