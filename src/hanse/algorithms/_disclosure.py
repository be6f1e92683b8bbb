"""What of an item leaves a node: the cells that hold enough rows, so that no others follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from hanse.algorithms._few_values import hidden_sums
from hanse.algorithms._observation import Scan, Shown, edge_key, key_parts
from hanse.algorithms._pairs_before import Earlier, are_of
from hanse.algorithms._query import (
    EVERYONE,
    SITES,
    WITHHELD,
    empty,
    finite,
    group_number,
    known_of,
    labels_by,
    stacked,
    unit,
)
from hanse.errors import DataError, NotAllowed
from hanse.kinds import Combine
from hanse.messages import Array
from hanse.queries import Arrays, Item, Known, Owner, Plan, Withheld, statistic
from hanse.suppression import hidden, hidden_table

MOST_EDGES = 20_000


def disclosed(
    item: Item,
    scan: Scan,
    plan: Plan,
    known: Mapping[str, Array],
    owner: Owner,
    images: int | None,
    shown: Shown,
    before: Earlier | None = None,
) -> tuple[dict[str, Array], str]:
    """What of an item leaves, and why something was kept back; adds to ``shown``. ``images``: of how many its rows are
    the pixels; None: they are rows. ``before``: pairs of columns that other questions were told of."""
    found = scan.found[item]
    everyone = replace(EVERYONE, total=owner.total)
    few_images = images is not None and 0 < images < owner.minimum  # it is images that are people
    stat, options, reason = statistic(item.stat), item.options, ""
    shape = [len(labels) + 1 for labels in labels_by(plan, known, item)]
    rows = np.array([int(arrays["n"]) for arrays in found])
    minimum = owner.minimum
    if minimum > 1 and images is not None and not item.columns[0].endswith("[shape]"):
        minimum *= max(1, int(rows.sum()) // max(1, images))  # so many pixels stand for so many images
    if few_images:
        back = np.ones(len(found), bool)
    elif not item.by:
        back = (rows > 0) & (rows < minimum) & (item.stat != "levels")
    elif len(shape) == 1:
        back = hidden(rows, minimum)
    else:
        back = hidden_table(rows.reshape(shape), minimum).reshape(-1)
    few = scan.few.get(item, ()) if minimum > 1 else ()
    rare = "" if not few else "a value that few rows have, which its sums would tell of"
    if few and len(item.columns) == 1:
        kept_before = back
        back = hidden_sums(few, back, shape, minimum)
        rare = rare if (back & ~kept_before).any() else ""
    labels = [None if place is None else one for place, one in _named(labels_by(plan, known, item), shape)]
    owners = [_earlier(item, one, scan, shown, owner, minimum) for one in labels]
    places = [group_number(group, shape) for group in range(len(found))]
    knows = [None if place is None else known_of(plan, known, item, place) for place in places]
    protected: list[Arrays | None] = []  # None: without a label, {}: kept back
    for arrays, kept, mine, allowed in zip(found, back, knows, owners, strict=True):
        out: Arrays | None = None if mine is None else {}
        if mine is not None and kept:
            reason = (
                "fewer rows than this node's minimum"
                if not item.by
                else "some groups have fewer rows than this node's minimum, and others are kept back with them"
            )
            reason = rare or reason
        elif mine is not None and not arrays["n"]:
            out = stat.protect(empty(item, Known(mine)), options, everyone, mine)
        elif mine is not None:
            try:
                out = stat.protect(arrays, options, allowed, mine)
            except Withheld as why:
                reason = str(why)
        protected.append(out)
    if item.by and minimum > 1 and stat.across is not None:
        together = _earlier(item, (), scan, shown, owner, minimum)
        protected = stat.across(found, protected, shape, together, options, known_of(plan, known, item, 0))
        _remember(shown, edge_key(item), together.used)
        if not reason and any(out is not None and not out for out in protected):
            reason = stat.few
    if few and len(item.columns) > 1:
        pairs = np.any([group.rare(minimum) for group in few], axis=0)
        protected = [_without(out, pairs) if out else out for out in protected]
        reason = reason or (rare if pairs.any() else "")
    if before is not None and are_of(item):
        pairs_told = {
            one: out["N"] > 0 if len(item.columns) > 1 else np.ones((1, 1), bool)
            for one, out in zip(labels, protected, strict=True)
            if one is not None and out and out["n"]
        }
        close = before.kept_back(item, pairs_told)
        if close.any():
            protected = [(_without(out, close) if len(item.columns) > 1 else {}) if out else out for out in protected]
            reason = reason or f"{stat.few}, or that differ by few rows from what was told before"
    sent: list[Arrays] = []
    for out, mine in zip(protected, knows, strict=True):
        if mine is not None:
            sent.append(stat.share(out, options, mine) if out else unit(item, mine, everyone))
            if stat.combine is Combine.SUM and not finite(sent[-1]):
                raise DataError(
                    f"{item.name}: values here are too far from the mean of all sites, their sums "
                    "about it are too large for a 64-bit number"
                )
    flags = [int(not out) for out in protected if out is not None]
    if not sent:  # no label at all: arrays of no groups
        none = unit(item, known_of(plan, known, item, 0), everyone)
        besides = {WITHHELD: np.zeros(0, np.int64), SITES: np.zeros(0, np.int64)}
        return {**{k: np.empty((0, *v.shape), v.dtype) for k, v in none.items()}, **besides}, ""
    if item.by and minimum > 1 and "counts" in sent[0] and "hidden" in sent[0]:
        sent = _over_groups(item, scan, plan, known, owner, sent, flags)
    if not reason and any("hidden" in s and s["hidden"].any() for s in sent):
        reason = stat.few
    for one, allowed in zip(labels, owners, strict=True):
        _remember(shown, edge_key(item, one or ()), allowed.used)
    named = [n for n, mine in zip(rows, knows, strict=True) if mine is not None]
    told = np.array([int(n > 0 and not kept) for n, kept in zip(named, flags, strict=True)], np.int64)
    return {**stacked(sent), WITHHELD: np.array(flags, np.int64), SITES: told}, reason


def _without(arrays: Arrays, pairs: Array) -> Arrays:
    """The arrays of pairs of columns without some of these, as if no row had them."""
    there = {n: np.where(pairs, np.zeros((), a.dtype), a) if a.shape == pairs.shape else a for n, a in arrays.items()}
    return {**there, "n": there["N"].max(), "hidden": (pairs | (arrays["hidden"] > 0)).astype(np.int64)}


def _named(labels: Sequence[Sequence[str]], shape: Sequence[int]) -> Iterator[tuple[int | None, tuple[str, ...]]]:
    """Each group's number among those with labels, and its labels."""
    for group in range(int(np.prod(shape, dtype=np.int64))):
        at = np.unravel_index(group, shape) if shape else ()
        place = group_number(group, shape)
        yield place, () if place is None else tuple(of[int(i)] for of, i in zip(labels, at, strict=True))


def _earlier(item: Item, labels: tuple[str, ...] | None, scan: Scan, shown: Shown, owner: Owner, minimum: int) -> Owner:
    """What the owner allows of a group: with the edges that were shown of it before, and those of all rows, or for
    these the ones that every group of a breakdown shows."""
    mine = edge_key(item, labels or ())
    parts: dict[tuple[tuple[str, ...], bool], list[set[float]]] = {}
    for key, edges in shown.items():
        columns, by, of = key_parts(key)
        if columns == item.columns and key != mine and (not of or not labels):
            parts.setdefault((by, bool(of)), []).append(set(edges))
    others = [tuple(sorted(set.intersection(*sets))) for sets in parts.values()]
    grouped = bool(item.by)
    seen = tuple(shown.get(mine, ()))
    return Owner(minimum, owner.extremes, scan.cuts[item], seen, tuple(others), [], grouped, owner.total)


def _remember(shown: Shown, key: str, used: Sequence[float]) -> None:
    if used:
        shown[key] = sorted({*shown.get(key, ()), *used})
        if len(shown[key]) > MOST_EDGES:
            raise NotAllowed("histograms and curves of this column have used up all edges that this node shows")


def _over_groups(
    item: Item,
    scan: Scan,
    plan: Plan,
    known: Mapping[str, Array],
    owner: Owner,
    sent: Sequence[Arrays],
    flags: Sequence[int],
) -> list[Arrays]:
    """Cells of all groups as one table, whose columns add up to what is told of all rows together: so that
    no group's small cell is the rest of the others'."""
    shape = [len(labels) + 1 for labels in labels_by(plan, known, item)]
    inner = [group_number(group, shape) for group in range(len(scan.found[item]))]
    all_seen = Owner(1, True, scan.cuts[item], total=owner.total)
    counts = np.stack(
        [
            statistic(item.stat).protect(arrays, item.options, all_seen, known_of(plan, known, item, i or 0))["counts"]
            for i, arrays in zip(inner, scan.found[item], strict=True)
        ]
    )
    back = np.zeros(counts.shape, bool)  # of rows without a label only few matter: many are what is left of all
    for group, i in enumerate(inner):
        if i is not None and not flags[i]:
            back[group] = sent[i]["hidden"] > 0
    back = _everywhere(counts, owner.minimum, back)
    out = list(sent)
    for group, i in enumerate(inner):
        if i is not None and not flags[i]:
            alike = {name: a for name, a in sent[i].items() if a.shape == back[group].shape}
            cells = {name: np.where(back[group], 0, array) for name, array in alike.items()}
            out[i] = {**sent[i], **cells, "hidden": back[group].astype(np.int64)}
    return out


def _everywhere(counts: Array, minimum: int, back: Array) -> Array:
    """Hidden cells of groups: as one table with those of all rows, and where a group has a table of its own,
    as its cells too."""
    while True:
        out = hidden_table(counts.reshape(len(counts), -1), minimum, back.reshape(len(back), -1)).reshape(back.shape)
        if out.ndim == 2:
            return out
        out = np.stack([hidden_table(c, minimum, b) for c, b in zip(counts, out, strict=True)])
        if np.array_equal(out, back):
            return out
        back = out
