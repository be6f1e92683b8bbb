"""Pairs of columns that other questions were told of.

Two pairs that have a column in common each sum it over rows of their own. Where these sets of rows differ by few, so
do the sums: those of (a, b) less those of (a, c) would be a's values of these few. Within a question
:mod:`hanse.statistics._pairs` keeps both back; of two questions the first is told, and the other kept back.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from hanse.algorithms._owner import present
from hanse.algorithms._query import Query, labels_by
from hanse.kinds import Source
from hanse.messages import Array
from hanse.queries import Arrays, Item, codes

MOST = 32  # columns that are compared, as in one question; of more, those that lack rows are kept back
_TOLD = "pairs"


def is_of_pairs(observed: Arrays) -> bool:
    """Whether what was observed of an item are sums over the rows of pairs of its columns."""
    return "three" in observed


def kept_back(source: Source, query: Query, item: Item, known: Arrays, minimum: int) -> Array:
    """(p, p) bool: pairs of the item's columns that differ by few rows from another that was told, in all rows or in a
    group of them. A pair that was told itself is told again."""
    p, told = len(item.columns), _told(source)
    back, mine = np.zeros((p, p), bool), {*item.columns}
    beside = sorted({column for pair in told if pair & mine for column in pair} - mine)
    if minimum <= 1 or not any(pair & mine for pair in told) or not {*item.columns, *item.by} <= {*source.schema}:
        return back
    union = [*item.columns, *beside]
    before = np.array([[frozenset((a, b)) in told for b in union] for a in union])
    groups = _patterns(source, query, item, union, known)
    whole = all(np.frombuffer(bits, bool).all() for patterns in groups.values() for bits in patterns)
    for patterns in groups.values() if not whole else ():
        there = np.array([np.frombuffer(bits, bool) for bits in patterns]).astype(float)
        rows = np.array([*patterns.values()], float)
        for i in range(p):
            with_i = there * (there[:, i] * rows)[:, None]
            n, both = with_i.sum(0), with_i.T @ there
            apart = np.rint(n[:, None] + n[None, :] - 2 * both)  # rows that have i, and one of the other two
            close = (apart > 0) & (apart < minimum) if len(union) <= MOST else np.ones_like(before)
            back[i] |= (close & before[i][None, :]).any(1)[:p]
    back |= back.T
    back &= ~before[:p, :p]
    np.fill_diagonal(back, False)
    return back


def remember(source: Source, item: Item, sent: Arrays) -> None:
    """Keeps the pairs that are about to be told."""
    there = ((sent["N"] > 0) & (sent["hidden"] == 0)).any(0)
    fresh = {frozenset((item.columns[i], item.columns[j])) for i, j in np.argwhere(np.triu(there, 1))}
    told = _told(source)
    if not fresh <= told:
        source.memory[_TOLD] = sorted(sorted(pair) for pair in told | fresh)


def _told(source: Source) -> set[frozenset[str]]:
    return {frozenset(map(str, pair)) for pair in source.memory.get(_TOLD) or ()}


def _patterns(source: Source, query: Query, item: Item, columns: list[str], known: Arrays) -> dict[int, Counter[bytes]]:
    """Of each group that has rows, those without a label included: how many have which of the columns."""
    labels = labels_by(query.plan, known, item)
    found: dict[int, Counter[bytes]] = {}
    for batch in source.batches(sorted({*columns, *item.by})):
        there = np.column_stack([present(batch[name]) for name in columns])
        place = np.zeros(batch.rows, np.int64)
        for name, of in zip(item.by, labels, strict=True):
            place = place * (len(of) + 1) + codes(batch[name], of) + 1
        for group in np.unique(place):
            mine = there[place == group]
            bits = np.ascontiguousarray(np.packbits(mine, axis=1))
            _, first, counts = np.unique(bits.view(f"V{bits.shape[1]}"), return_index=True, return_counts=True)
            ways = {mine[row].tobytes(): int(n) for row, n in zip(first, counts, strict=True)}
            found.setdefault(int(group), Counter()).update(ways)
    return found
