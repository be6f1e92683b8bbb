"""A column's distribution in about 4,096 cells that need no known range; what quantiles come from.

Cells hold values d = x - μ about the mean μ of all sites. At ``depth`` 0 they grow with the distance:
16 to each power of two, from 2^-64 to 2^80 (1e24) on both sides; what stands farther out is counted
in the last of them, and no quantile is told of it. At each further depth the cells of the
depth before are divided evenly, each into as many parts as its share of all rows says, so that they
hold about equally many rows. All of it is counts, so it adds over sites.

A node tells neighbouring cells together until they hold the owner's minimum of rows
(:mod:`hanse.statistics._joined`), all about equally many; groups at the same cells for all of them where these are
``pooled``, at ends of the runs of all rows. So no cell stands for one person, no extreme leaves, and a cumulative count
lies between ``first`` and ``last``. Of groups that are ``pooled`` it also tells ``places``, the sum of its rows' cells
by number: one number of a group of the minimum of rows, as its mean is, and bounded, as the mean is not. It is
Wilcoxon's rank sum on a scale that all sites share, and says on which side of the middle of their runs a group's rows
stand as a whole.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Item, Known, Owner, Statistic, Values, Withheld, same, take
from hanse.statistics import _joined
from hanse.statistics._powers import center

CELLS = 4096
DEEPEST = 4
_LOW, _HIGH, _FINE = -64, 80, 4  # powers of two, and bits of the mantissa
_KEYS = (_HIGH - _LOW) << _FINE
_FIRST = (1023 + _LOW) << _FINE
_SHIFT = 52 - _FINE
FARTHEST = 2.0**_HIGH * (1 - 2.0 ** -(_FINE + 1))  # the cells beyond hold all that is farther from the mean, too


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = take(options, depth=1, pooled=False)
    if found["depth"] not in range(DEEPEST + 1) or not isinstance(found["pooled"], bool):
        raise ConfigError(f"depth is {found['depth']!r}; expected 0 to {DEEPEST}")
    return found


def needs(item: Item) -> tuple[Item, ...]:
    """The mean, and the cells of all depths before. ``pooled``: those of all groups together."""
    options = item.options
    base = replace(item, by=()) if options["pooled"] else item
    return (same(base, "mean"), *(same(base, "cells", depth=d) for d in range(options["depth"])))


def edges_of(known: Sequence[Arrays]) -> Array:
    """(k + 1,) edges of the cells in terms of d, for the depth ``len(known) - 1``; not to be written into."""
    told: tuple[tuple[str, bytes], ...] = ()
    for cells in known[1:]:
        counts = cells["counts"][: len(_edges(told)) - 1]  # zeros follow where other groups have more cells
        told += ((counts.dtype.str, counts.tobytes()),)
    return _edges(told)


@functools.lru_cache(8)
def _edges(told: tuple[tuple[str, bytes], ...]) -> Array:
    """The edges after each division by counts (their dtype and bytes). Kept for a while: all sites of a simulation, and
    each step of a coordinator, divide by the same counts."""
    if told:
        dtype, counts = told[-1]
        found = _divided(_edges(told[:-1]), np.frombuffer(counts, dtype))
    else:
        steps = 2.0 ** np.arange(_LOW, _HIGH)[:, None] * (1 + np.arange(1 << _FINE) / (1 << _FINE))
        outward = np.append(steps.reshape(-1), 2.0**_HIGH)
        found = np.concatenate([-outward[::-1], outward])
    found.flags.writeable = False
    return found


def _divided(edges: Array, counts: Array) -> Array:
    total = int(counts.sum())
    full = counts > 0
    parts = np.where(full, np.maximum(1, np.rint(counts / max(total, 1) * CELLS)), 1).astype(np.int64)
    parts[[0, -1]] = 1  # they have no end: what stands there stays outside of all that is told
    starts = np.concatenate([[True], full[1:] | full[:-1]])  # empty neighbours become one cell
    parts = np.where(starts, parts, 0)
    low, width = np.repeat(edges[:-1], parts), np.repeat(np.diff(edges), parts)
    first = np.repeat(np.cumsum(parts) - parts, parts)
    inside = (np.arange(len(low)) - first) / np.repeat(np.maximum(parts, 1), parts)
    return np.unique(np.append(low + width * inside, edges[-1]))


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    with np.errstate(over="ignore"):
        d = values.finite - center(known[0])
    if len(known) == 1:
        key = (np.abs(d).view(np.int64) >> _SHIFT) - _FIRST
        key = np.clip(key, -1, _KEYS - 1)
        place = np.where(d < 0, _KEYS - 1 - key, _KEYS + 1 + key)
        place[key < 0] = _KEYS  # nearer to the mean than any cell
        counts = np.bincount(place, minlength=2 * _KEYS + 1)
    else:
        border = known.keep("edges", lambda: edges_of(known))
        place = np.searchsorted(border, d, "right") - 1
        counts = np.bincount(np.clip(place, 0, len(border) - 2), minlength=len(border) - 1)
    return {"n": np.asarray(len(d), np.int64), "counts": counts.astype(np.int64)}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    if owner.minimum <= 1 or not arrays["n"]:
        exact = {**arrays, "first": arrays["counts"], "last": arrays["counts"]}
        return exact | ({"places": _places(arrays["counts"])} if options["pooled"] else {})
    if owner.grouped and options["pooled"]:
        return {"n": arrays["n"]}  # all groups together, below
    [found] = _told([arrays["counts"]], arrays["counts"], owner, options, known)
    return {"n": arrays["n"], **found}


def across(
    found: Sequence[Arrays],
    sent: Sequence[Arrays | None],
    shape: Sequence[int],
    owner: Owner,
    options: Mapping[str, Json],
    known: Known,
) -> list[Arrays | None]:
    """Groups that are counted in the same cells are joined alike; those that are not told are one more part."""
    if not options["pooled"]:
        return list(sent)
    mine = [arrays["counts"] for arrays, part in zip(found, sent, strict=True) if part and arrays["n"]]
    rest = [arrays["counts"] for arrays, part in zip(found, sent, strict=True) if not part and arrays["n"]]
    left = [np.sum(rest, axis=0)] if rest else []
    try:
        parts = iter(_told([*mine, *left], np.sum([*mine, *left], axis=0), owner, options, known) if mine else [])
    except Withheld:
        return [None if part is None else {} for part in sent]
    return [
        {"n": arrays["n"], **next(parts), "places": _places(arrays["counts"])} if part and arrays["n"] else part
        for arrays, part in zip(found, sent, strict=True)
    ]


def _places(counts: Array) -> Array:
    return np.asarray(counts @ np.arange(len(counts)), np.int64)


def _told(
    parts: Sequence[Array], whole: Array, owner: Owner, options: Mapping[str, Json], known: Known
) -> list[dict[str, Array]]:
    """Raises ``Withheld`` where there are too few rows."""
    joined = _joined.runs(whole, owner.minimum)
    joined = (
        _joined.runs(np.array(parts), owner.minimum, joined)
        if options["pooled"]
        else _joined.even(whole, joined, owner.minimum)
    )
    if not len(joined):
        raise Withheld("fewer rows than this node's minimum")
    cells = len(whole)
    if len(known) > 1:  # these hold about equally many rows of all sites each, but for the last on both sides
        edges = np.arange(cells + 1.0)
        low, high = np.maximum(joined[:, 0], 1.0), np.minimum(joined[:, 1] + 1.0, cells - 1.0)
    else:
        edges = edges_of(known)
        low, high = _joined.extents(edges, joined, _joined.sums(whole, joined))
        if len(joined) == 1 and joined[0, 0] < joined[0, 1]:  # with nothing around, they stand at their median
            middle = np.searchsorted(np.cumsum(whole), (whole.sum() + 1) // 2)
            low, high = edges[[middle]], edges[[middle + 1]]
    return _joined.told(parts, joined, low, high, edges)


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    """Edges and counts of the cells that are not empty."""
    border = edges_of(known) + center(known[0])
    full = np.flatnonzero(arrays["counts"])
    return {"low": border[full].tolist(), "high": border[full + 1].tolist(), "counts": arrays["counts"][full].tolist()}


ARGUMENTS = {"depth": "of the cells in which rows are counted; finer, and dearer, with each"}

STATISTIC = Statistic(
    doc="distribution in cells of about equally many rows",
    check=check,
    needs=needs,
    before=99,
    observe=observe,
    protect=protect,
    across=across,
    counts=("n", "counts", "first", "last"),
    final=final,
    scalar=False,
    shown=Shown(offered=False),
)
