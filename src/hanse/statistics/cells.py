"""A column's distribution in about 4,096 cells that need no known range; what quantiles come from.

Cells hold values d = x - μ about the mean μ of all sites. At ``depth`` 0 they grow with the distance:
16 to each power of two, from 2^-64 to 2^80 (1e24) on both sides; what stands farther out is counted
in the last of them, and no quantile is told of it. At each further depth the cells of the
depth before are divided evenly, each into as many parts as its share of all rows says, so that they
hold about equally many rows. All of it is counts, so it adds over sites.

A node joins neighbouring cells until each holds the owner's minimum of rows (or none), and lets them
stand where at least so many rows lie further out. So no cell stands for one person, and no extreme
leaves; a cumulative count is off by less than twice the minimum at each node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Item, Known, Owner, Statistic, Values, Withheld, same, take
from hanse.statistics._powers import center
from hanse.suppression import joined, runs

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


def edges(known: Sequence[Arrays]) -> Array:
    """(k + 1,) edges of the cells in terms of d, for the depth ``len(known) - 1``."""
    steps = 2.0 ** np.arange(_LOW, _HIGH)[:, None] * (1 + np.arange(1 << _FINE) / (1 << _FINE))
    outward = np.append(steps.reshape(-1), 2.0**_HIGH)
    found = np.concatenate([-outward[::-1], outward])
    for cells in known[1:]:
        found = _divided(found, cells["counts"][: len(found) - 1])  # zeros follow where other groups have more cells
    return found


def _divided(edges: Array, counts: Array) -> Array:
    total = int(counts.sum())
    full = counts > 0
    parts = np.where(full, np.maximum(1, np.rint(counts / max(total, 1) * CELLS)), 1).astype(np.int64)
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
        border = known.keep("edges", lambda: edges(known))
        place = np.searchsorted(border, d, "right") - 1
        counts = np.bincount(np.clip(place, 0, len(border) - 2), minlength=len(border) - 1)
    return {"n": np.asarray(len(d), np.int64), "counts": counts.astype(np.int64)}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    counts = arrays["counts"]
    if owner.minimum <= 1 or not arrays["n"]:
        return arrays
    place = runs(counts, owner.minimum)
    if np.all(place < 0):
        raise Withheld("fewer rows than this node's minimum")
    return {"n": arrays["n"], "counts": joined(counts, place)}


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    """Edges and counts of the cells that are not empty."""
    border = edges(known) + center(known[0])
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
    counts=("n", "counts"),
    final=final,
    scalar=False,
    shown=Shown(offered=False),
)
