"""The labels of a column that all rows together have in the minimum: what nodes add up, and what follows.

A node says in words how many labels it has, rounded up to a power of two, and in sums all else
(:mod:`hanse.algorithms._label_sums`): in the first what labels there are, without their words, and the rows of each; in
the second the words of those that may be told. What is rare of all rows goes no further than the first sum.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from hanse.algorithms import _label_sums as sums
from hanse.algorithms._observation import observed
from hanse.algorithms._query import SITES, WITHHELD, Query
from hanse.errors import ConfigError, Unusable
from hanse.kinds import Site
from hanse.messages import Array, Json
from hanse.queries import MOST_LABELS, Item, Owner, ordered, pack, unpack

STAT = "levels"
_NONE = np.zeros(0, np.int64)


def items(query: Query) -> dict[str, Item]:
    """The items that find the labels of a column, by their place."""
    return {str(query.plan.place(item)): item for item in query.plan.items if item.stat == STAT}


# ---------------------------------------------------------------- the node


def terms(site: Site, query: Query, owner: Owner, item: Item) -> tuple[int, str]:
    """How many labels this node says that it has, and why it counts none of them; "" where it does."""
    found = _labels(site, query, owner, item)
    if found is None:
        return sums.rounded(0), "the column has too many different values to be labels; ask for a histogram"
    return sums.rounded(len(found[0])), ""


def answered(
    site: Site, query: Query, owner: Owner, kind: str, sizes: Mapping[str, int], keys: Mapping[str, Array]
) -> dict[str, Array]:
    """What this node adds to the tables of ``labels``, or to the ``names`` of some of them. Raises ``ConfigError`` for
    what the query has not."""
    arrays, known = dict[str, Array](), items(query)
    for place, size in sizes.items():
        if place not in known or not 0 < size <= sums.cells(sums.MOST):
            raise ConfigError("the query has no such labels")
        labels, rows = _labels(site, query, owner, known[place]) or ((), _NONE)
        if kind == "labels":
            arrays[f"{place}.table"] = sums.table(labels, rows, size)
        elif size > sums.LONGEST or place not in keys or len(keys[place]) > MOST_LABELS:
            raise ConfigError("so long labels, or so many, are not told")
        else:
            arrays[f"{place}.names"] = sums.spelled(labels, rows, keys[place], size)
    return arrays


def _labels(site: Site, query: Query, owner: Owner, item: Item) -> tuple[tuple[str, ...], Array] | None:
    """The labels of a column here, and the rows of each; None where there are too many."""
    assert site.source is not None
    if item.columns[0] not in site.source.schema:
        return (), _NONE
    [found] = observed(site, site.source, query, [item], {}, owner, {})[item].found[item]
    return None if found["over"] else (unpack(found["labels"]), found["counts"])


# ---------------------------------------------------------------- the coordinator


def said(many: Json) -> int:
    """How many labels a node says that it has. Raises ``ValueError`` for what it cannot have said."""
    if not isinstance(many, int) or many != sums.rounded(many):
        raise ValueError("a number of labels is a power of two")
    return many


def sizes(labels: Mapping[str, int], withheld: Collection[str]) -> tuple[dict[str, int], dict[str, str]]:
    """The size of each table, and why a column has none.

    Args:
        labels: by place, of all sites together at most.
        withheld: places that some site tells nothing of.
    """
    why = "all sites together have too many different values to be labels; ask for a histogram"
    there = {place: many for place, many in labels.items() if place not in withheld}
    fit = {place: sums.cells(many) for place, many in there.items() if many <= sums.MOST}
    return fit, {place: why for place in there if place not in fit}


def counted(
    total: Mapping[str, Array], sizes: Mapping[str, int], minimum: int, nodes: Sequence[str]
) -> tuple[dict[str, Array], dict[str, str]]:
    """By place, (k, 3): hash, rows and bytes of each label that is told; and why a column has none. Raises
    ``Unusable``."""
    named: dict[str, Array] = {}
    unknown: dict[str, str] = {}
    for place, size in sizes.items():
        summed = total.get(f"{place}.table")
        if summed is None or summed.shape != sums.table((), _NONE, size).shape:
            raise Unusable(dict.fromkeys(nodes, "its table of labels has another size than asked"))
        found = sums.counted(summed)
        if found is None:
            unknown[place] = "the labels of all sites cannot be told apart; ask for a histogram"
            continue
        told = (found.rows >= minimum) & (found.lengths <= sums.LONGEST)
        if int(told.sum()) > MOST_LABELS:
            raise Unusable(dict.fromkeys(nodes, f"the column has more than {MOST_LABELS} labels; use a histogram"))
        named[place] = np.stack([part[told].astype(np.int64) for part in found], 1)
    return named, unknown


def asked(named: Mapping[str, Array]) -> tuple[dict[str, int], dict[str, Array]]:
    """By place, the bytes of the longest label whose name is asked for, and the hashes of all of them."""
    lengths = {place: max(1, int(found[:, 2].max(initial=1))) for place, found in named.items()}
    return lengths, {place: found[:, 0].astype(np.uint64) for place, found in named.items()}


def named(total: Mapping[str, Array], named: Mapping[str, Array], nodes: Sequence[str]) -> dict[str, Array]:
    """The arrays of the items whose labels these are. Raises ``Unusable``."""
    arrays: dict[str, Array] = {}
    for place, found in named.items():
        of = sums.Counted(found[:, 0].astype(np.uint64), found[:, 1], found[:, 2])
        summed = total.get(f"{place}.names") if len(found) else np.zeros((0, 1), np.int64)
        words = sums.words(summed, of) if summed is not None and summed.shape[:1] == found.shape[:1] else None
        if words is None:
            raise Unusable(dict.fromkeys(nodes, "what it says of its labels is not what it counted"))
        arrays |= agreed(place, words)
    return arrays


def agreed(place: str, names: Sequence[str]) -> dict[str, Array]:
    """The arrays of an item of these labels."""
    listed = ordered(sorted(names))
    one: dict[str, Any] = {"n": len(listed), "counts": [1] * len(listed), "over": 0, WITHHELD: 0, SITES: 1}
    found = {f"{place}.{name}": np.array([part], np.int64) for name, part in one.items()}
    return {**found, f"{place}.labels": pack(listed)[None]}
